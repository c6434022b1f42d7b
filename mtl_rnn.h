/* mtl_rnn.h - trains and runs multi-task recurrent networks. One C header, libc only. MIT or public domain,
   see the end.

   In ONE source file of your program:

       #define MTL_RNN_IMPLEMENTATION
       #include "mtl_rnn.h"

   and `#include "mtl_rnn.h"` alone wherever else you call it. Link with -lm (and -lpthread where libc does
   not hold it). No other flag is needed: vector kernels carry their own target attributes and are chosen at
   run time.

   THE SMALLEST WORKING PROGRAM learns to tell which of two ids a sequence ends with, and what each step's id
   is:

       #define MTL_RNN_IMPLEMENTATION
       #include "mtl_rnn.h"
       int main(void)
       {
           mtl_input_desc input = {0};
           mtl_task_desc tasks[2] = {{0}};
           mtl_model_desc desc = {0};
           mtl_error err = {0};
           int lengths[2] = { 3, 2 }, ids[5] = { 0, 1, 1, 1, 0 }, last[2] = { 1, 0 }, i;
           mtl_input inputs[1] = {{0}};
           mtl_target targets[2] = {{0}};
           mtl_batch batch = {0};
           mtl_step step;
           input.name = "ids";  input.vocabulary = 2;  input.width = 8;
           tasks[0].name = "last";  tasks[0].classes = 2;
           tasks[1].name = "each";  tasks[1].classes = 2;  tasks[1].level = MTL_LEVEL_STEP;
           desc.inputs = &input;  desc.input_count = 1;  desc.tasks = tasks;  desc.task_count = 2;
           desc.encoder.hidden = 16; inputs[0].ids = ids;  targets[0].labels = last;  targets[1].labels = ids;
           batch.sequences = 2;  batch.lengths = lengths;  batch.inputs = inputs;  batch.targets = targets;
           mtl_model *model = mtl_model_create(&desc, &err);
           mtl_trainer *trainer = mtl_trainer_create(model, NULL, &err);
           for (i = 0; i < 100 && mtl_train_step(trainer, &batch, 1, &step, &err) == MTL_OK; i++) {}
           mtl_model_save(model, "tiny.safetensors", &err);
           if (err.code) puts(err.message);
           mtl_trainer_destroy(trainer);
           mtl_model_destroy(model);
           return err.code != MTL_OK;
       }

   WHAT IT IS. A shared encoder (columns of GRU, LSTM or plain RNN cells, one or two directions, stacked)
   under a registry of tasks. A task is one label or number per sequence or per step. The joint loss is sum_k
   weight_k L_k. Labels may be missing anywhere. Batches are ragged: sequences end to end, with lengths;
   nothing is padded, inside or outside.

   OPTIONS, before the implementation:
       MTL_RNN_STATIC           everything static: private to this file
       MTL_REAL double          double precision, scalar code: for checking gradients and for teaching (define
                                it everywhere)
       MTL_NO_SIMD              scalar kernels only           MTL_SINGLE_ISA MTL_ISA_AVX2   one instruction
                                                              set only
       MTL_NO_THREADS           no built-in pool
       MTL_WINDOWS_AVX          gcc for Windows: AVX2 and AVX-512 kernels too; section 2 says when they do not
                                crash
       MTL_MALLOC, MTL_FREE     your allocator                MTL_ASSERT(condition)   your assertion;
                                                              MTL_DEBUG: libc's
       MTL_HEADER_NAME          this file's name as it is included, if it is not "mtl_rnn.h"

   DESCS. Every creation takes a pointer to a ..._desc; zero it, set what matters: zero means the default.
   Fields, defaults and ranges stand in one table each, in section 1; `mtl_fields` reads them.

   MEMORY. A model is one block whose size mtl_model_size tells; mtl_model_init makes it in your buffer.
   Trainers and predictors likewise, when max_rows is given; within the limits nothing is allocated after
   creation. Without limits their scratch grows on demand and is kept. What a call returns (predictions,
   losses) belongs to the object that made it and lasts until its next call.

   ERRORS. What can fail takes a mtl_error, NULL allowed, and returns a status or NULL. Errors are sticky: a
   call that is given a set error does nothing and fails, so one check at the end of a straight line is
   enough; mtl_error_clear resets. Nothing is printed, nothing exits. A NaN in an input or a loss stops a step
   before a weight is touched.

   THREADS. No mutable globals. Different objects may be used from different threads. A model is read-only
   between trainings: any number of predictors, one per thread, may share it. Inside one object work is spread
   over `threads` workers or over your own job system (mtl_scheduler); results are the same bits for any
   number.

   CONTENTS (search for the tag)
      1 >>api        what callers see, in the order they need it
      2 >>platform   compiler and OS differences, assertions, alignment, libc wrappers, file primitives,
                     number text
      3 >>error      codes and texts; mtl_error with the offending name, number or byte offset
      4 >>cpu        what the processor and the operating system support
      5 >>random     counter-based: a value depends on (seed, stream, index), never on thread or order
      6 >>arena      bump allocation, mark and release, high-water mark, caller's buffer or malloc, fail-next
                     hook
      7 >>threads    parallel-for: none, built-in pool, or the caller's own job system through one callback
      8 >>kernels    template, read again once per ISA: vectors, exp/tanh/sigmoid, products, element-wise
                     cells, softmax, Adam
      9 >>dispatch   stamping, tables, choice
     10 >>tensor     parameters and buffers by name, initial values, gradient state, packed matrices
     11 >>batch      ragged sequences to packed time-major rows and back
     12 >>formats    safetensors, JSON, vocabulary, text normalisation, whole files: tensors and strings,
                     nothing of models
     13 >>desc       field tables, and the one copy, check, write and read that serve every desc
     14 >>tape       the run, its records, playing them backward
     15 >>layers     embedding, dense, dropout, selection, concatenation, pooling
     16 >>cells      RNN, GRU, LSTM, whose table is in >>kernels; directions; stacks
     17 >>losses     cross-entropy, MSE, MAE, Huber, binary cross-entropy; penalties
     18 >>metrics    accuracy, span F1, label F1, RMSE, MAE, R2: counted as items stream by, nothing allocated
     19 >>nodes      inputs, columns, mixes, penalties: tables of their kinds, the one list that passes walk
     20 >>tasks      the registry: the table of kinds of task, and the heads that they share
     21 >>sharing    presets: each fills a desc with columns, mixes, taps, penalties; nothing in the passes
     22 >>model      create, size, save, load, transfer, import
     23 >>session    what trainers and predictors have in common: scratch, limits, threads, the run
     24 >>predict    batches of sequences through a read-only model
     25 >>balance    from the tasks' losses to gradients: their weights, groups of tasks, surgery
     26 >>optimise   SGD, RMSProp, Adam, AdamW; clipping; schedules; averaging
     27 >>data       data sets: batches of chosen sequences, evaluation, samplers
     28 >>train      the step, resume
     29 >>fit        the training loop: epochs, early stopping, checkpoints
     30 >>check      gradient checker, for users' own layers too
     31 >>licence    MIT or public domain, at your choice
   -------------------------------------------------------------------------------------------------------- */
#ifndef MTL__STAMP                  /* defined while the header includes itself to read the kernel template:
                                       >>dispatch */

#ifndef MTL_RNN_H
#define MTL_RNN_H

/* ===========================================================================================================
   1  >>api        what callers see, in the order they need it
   ===========================================================================================================
   Shape letters, the same in every comment: B sequences, T steps, N rows (all steps of all sequences), I
   input width, H hidden units, G gates, C classes, V vocabulary. Matrices are row-major. Sizes are counted in
   elements unless a name says bytes.
   -------------------------------------------------------------------------------------------------------- */
#include <stddef.h>

#ifndef MTL_REAL
#define MTL_REAL float
#endif
typedef MTL_REAL mtl_real;      /* float; with `#define MTL_REAL double` before the header: double, scalar
                                   code only */

#ifdef MTL_RNN_STATIC           /* the whole library private to one translation unit */
#  if defined(__GNUC__) || defined(__clang__)
#    define MTL_DEF static __attribute__((unused))
#  else
#    define MTL_DEF static
#  endif
#elif defined(__cplusplus)
#  define MTL_DEF extern "C"
#else
#  define MTL_DEF extern
#endif

#define MTL_RNN_VERSION "0.1.0"
#define MTL_MAX_HIDDEN  4       /* hidden dense layers of a task's head, at most */
#define MTL_MISSING     (-1)    /* a label that is not known: no loss, no gradient, no score */
#define MTL_UNKNOWN_LABEL (-2)  /* a label that the model has no class for: as missing in training, wrong in
                                   evaluation; mtl_target.unknown may name it, which span scores need */
#define MTL_ZERO        1e-30f  /* a true zero, for number fields where 0 stands for the default */

/* ---- errors -------------------------------------------------------------------------------------------- */

/* Every code with its text. A test walks this list. */
#define MTL_ERROR_LIST(X) \
    X(MTL_ERROR_OK,            "no error") \
    X(MTL_ERROR_ARGUMENT,      "wrong argument") \
    X(MTL_ERROR_FIELD,         "field out of range") \
    X(MTL_ERROR_MEMORY,        "out of memory") \
    X(MTL_ERROR_BUFFER,        "the caller's buffer is too small") \
    X(MTL_ERROR_LIMIT,         "more than the limits given at creation") \
    X(MTL_ERROR_RANGE,         "index out of range") \
    X(MTL_ERROR_NUMBER,        "not a finite number") \
    X(MTL_ERROR_TEXT,          "text is not valid") \
    X(MTL_ERROR_IO,            "file cannot be read or written") \
    X(MTL_ERROR_FORMAT,        "file is not what it should be") \
    X(MTL_ERROR_VERSION,       "file is of a newer version") \
    X(MTL_ERROR_TENSOR,        "tensor missing or of another shape") \
    X(MTL_ERROR_UNSUPPORTED,   "not available here") \
    X(MTL_ERROR_STOPPED,       "stopped by the caller")

typedef enum mtl_status {
#define MTL__ERROR_ENUM(code, text) code,
    MTL_ERROR_LIST(MTL__ERROR_ENUM)
#undef MTL__ERROR_ENUM
    MTL_ERROR_COUNT
} mtl_status;
#define MTL_OK MTL_ERROR_OK

/* Where what can fail says why. Start with `mtl_error err = {0};`. Sticky: a call that is given a set error
   does nothing and fails, so a straight line of calls needs one check at its end. */
typedef struct mtl_error {
    int code;                   /* mtl_status; 0: none */
    char name[96];              /* the field, tensor, task or file that is at fault, or "" */
    long long position;         /* byte offset, index or size that is at fault, or -1 */
    char message[512];          /* one sentence for people: what is wrong, where, what to do */
} mtl_error;

/* Resets err to "no error". NULL is allowed. */
MTL_DEF void mtl_error_clear(mtl_error *err);
/* For kinds and layers of your own: sets err, unless it is set already. code: MTL_ERROR_*; name: what is at
   fault, or ""; position: where, or -1; message: one sentence. Returns the code that stands; err may not be
   NULL. */
MTL_DEF mtl_status mtl_error_set(mtl_error *err, int code, const char *name, long long position,
                                 const char *message);
/* The general text of a code; "unknown error" for a number that is none. Static memory. */
MTL_DEF const char *mtl_error_text(int code);

/* ---- choices by name ----------------------------------------------------------------------------------- */

enum { MTL_ISA_AUTO, MTL_ISA_SCALAR, MTL_ISA_SSE2, MTL_ISA_AVX2, MTL_ISA_AVX512, MTL_ISA_NEON,
    MTL_ISA_COUNT };
enum { MTL_PRECISION_DEFAULT, MTL_PRECISION_F32, MTL_PRECISION_BF16 };         /* default: float throughout */
enum { MTL_CELL_DEFAULT, MTL_CELL_RNN, MTL_CELL_GRU, MTL_CELL_LSTM, MTL_CELL_COUNT }; /* default: LSTM */
enum { MTL_ACTIVATION_DEFAULT, MTL_ACTIVATION_NONE, MTL_ACTIVATION_TANH, MTL_ACTIVATION_RELU,
    MTL_ACTIVATION_SIGMOID };
enum { MTL_RESET_DEFAULT, MTL_RESET_AFTER, MTL_RESET_BEFORE };           /* GRU; default: after, as PyTorch */
enum { MTL_INPUT_DEFAULT, MTL_INPUT_EMBEDDING, MTL_INPUT_FEATURES,
    MTL_INPUT_COUNT }; /* default: by what is given */
enum { MTL_COLUMN_DEFAULT, MTL_COLUMN_CELLS, MTL_COLUMN_COUNT };
enum { MTL_MIX_DEFAULT, MTL_MIX_CONCAT, MTL_MIX_SUM, MTL_MIX_GATE, MTL_MIX_EXPERTS, MTL_MIX_CROSS_STITCH,
    MTL_MIX_LEVELS, MTL_MIX_REVERSAL, MTL_MIX_COUNT }; /* default: concatenation */
enum { MTL_PENALTY_DEFAULT, MTL_PENALTY_TIE, MTL_PENALTY_ORTHOGONAL,
    MTL_PENALTY_ANCHOR, MTL_PENALTY_COUNT }; /* default: tie */
enum { MTL_LEVEL_SEQUENCE, MTL_LEVEL_STEP };
enum { MTL_TASK_CLASS, MTL_TASK_REAL, MTL_TASK_MULTI, MTL_TASK_ORIGIN, MTL_TASK_COUNT };
enum { MTL_LOSS_DEFAULT, MTL_LOSS_CROSS_ENTROPY, MTL_LOSS_MSE, MTL_LOSS_MAE, MTL_LOSS_HUBER,
    MTL_LOSS_BCE };
enum { MTL_POOL_DEFAULT, MTL_POOL_LAST, MTL_POOL_MEAN, MTL_POOL_MAX };                     /* default: last */
enum { MTL_OPTIMIZER_DEFAULT, MTL_OPTIMIZER_SGD, MTL_OPTIMIZER_RMSPROP, MTL_OPTIMIZER_ADAM,
    MTL_OPTIMIZER_ADAMW };
enum { MTL_SCHEDULE_DEFAULT, MTL_SCHEDULE_CONSTANT, MTL_SCHEDULE_STEP, MTL_SCHEDULE_EXPONENTIAL,
    MTL_SCHEDULE_LINEAR,
       MTL_SCHEDULE_COSINE, MTL_SCHEDULE_PLATEAU, MTL_SCHEDULE_ONE_CYCLE };
enum { MTL_BALANCE_DEFAULT, MTL_BALANCE_STATIC, MTL_BALANCE_INITIAL, MTL_BALANCE_ITEMS,
       MTL_BALANCE_UNCERTAINTY, MTL_BALANCE_DWA, MTL_BALANCE_RANDOM, MTL_BALANCE_IMTL, MTL_BALANCE_GRADNORM };
enum { MTL_SURGERY_DEFAULT, MTL_SURGERY_NONE, MTL_SURGERY_PCGRAD, MTL_SURGERY_GRADVAC, MTL_SURGERY_MGDA,
       MTL_SURGERY_CAGRAD, MTL_SURGERY_ALIGNED, MTL_SURGERY_UPGRAD };
enum { MTL_SAMPLER_DEFAULT, MTL_SAMPLER_PROPORTIONAL, MTL_SAMPLER_ROUND_ROBIN, MTL_SAMPLER_TEMPERATURE,
    MTL_SAMPLER_UNIFORM, MTL_SAMPLER_ANNEALED, MTL_SAMPLER_TOGETHER };
enum { MTL_CURRICULUM_DEFAULT, MTL_CURRICULUM_NONE, MTL_CURRICULUM_LENGTH };
enum { MTL_INIT_DEFAULT, MTL_INIT_UNIFORM, MTL_INIT_NORMAL, MTL_INIT_CONSTANT, MTL_INIT_XAVIER,
    MTL_INIT_HE, MTL_INIT_ORTHOGONAL, MTL_INIT_IDENTITY };  /* default: uniform, normal where initial is 0 */

/* Their names, for files, the command line and messages: X(value, name). The first row is the meaning of
   0. */
#define MTL_ISA_NAMES(X)        X(MTL_ISA_AUTO, "auto") X(MTL_ISA_SCALAR, "scalar") X(MTL_ISA_SSE2, "sse2") \
                                X(MTL_ISA_AVX2, "avx2") X(MTL_ISA_AVX512, "avx512") X(MTL_ISA_NEON, "neon")
#define MTL_PRECISION_NAMES(X)  X(MTL_PRECISION_F32, "f32") X(MTL_PRECISION_BF16, "bf16")
#define MTL_CELL_NAMES(X)       X(MTL_CELL_RNN, "rnn") X(MTL_CELL_GRU, "gru") X(MTL_CELL_LSTM, "lstm")
#define MTL_ACTIVATION_NAMES(X) X(MTL_ACTIVATION_NONE, "none") X(MTL_ACTIVATION_TANH, "tanh") \
                                X(MTL_ACTIVATION_RELU, "relu") \
                                X(MTL_ACTIVATION_SIGMOID, "sigmoid")
#define MTL_RESET_NAMES(X)      X(MTL_RESET_AFTER, "after") X(MTL_RESET_BEFORE, "before")
#define MTL_INPUT_NAMES(X)      X(MTL_INPUT_EMBEDDING, "embedding") X(MTL_INPUT_FEATURES, "features")
#define MTL_COLUMN_NAMES(X)     X(MTL_COLUMN_CELLS, "cells")
#define MTL_MIX_NAMES(X)        X(MTL_MIX_CONCAT, "concat") X(MTL_MIX_SUM, "sum") X(MTL_MIX_GATE, "gate") \
                                X(MTL_MIX_EXPERTS, "experts") X(MTL_MIX_CROSS_STITCH, "cross-stitch") \
                                X(MTL_MIX_LEVELS, "levels") X(MTL_MIX_REVERSAL, "reversal")
#define MTL_PENALTY_NAMES(X)    X(MTL_PENALTY_TIE, "tie") X(MTL_PENALTY_ORTHOGONAL, "orthogonal") \
                                X(MTL_PENALTY_ANCHOR, "anchor")
#define MTL_LEVEL_NAMES(X)      X(MTL_LEVEL_SEQUENCE, "sequence") X(MTL_LEVEL_STEP, "step")
#define MTL_TASK_NAMES(X)       X(MTL_TASK_CLASS, "class") X(MTL_TASK_REAL, "real") \
                                X(MTL_TASK_MULTI, "multi") X(MTL_TASK_ORIGIN, "origin")
#define MTL_LOSS_NAMES(X)       X(MTL_LOSS_CROSS_ENTROPY, "cross-entropy") X(MTL_LOSS_MSE, "mse") \
                                X(MTL_LOSS_MAE, "mae") \
                                X(MTL_LOSS_HUBER, "huber") X(MTL_LOSS_BCE, "bce")
#define MTL_POOL_NAMES(X)       X(MTL_POOL_LAST, "last") X(MTL_POOL_MEAN, "mean") X(MTL_POOL_MAX, "max")
#define MTL_OPTIMIZER_NAMES(X)  X(MTL_OPTIMIZER_SGD, "sgd") X(MTL_OPTIMIZER_RMSPROP, "rmsprop") \
                                X(MTL_OPTIMIZER_ADAM, "adam") \
                                X(MTL_OPTIMIZER_ADAMW, "adamw")
#define MTL_SCHEDULE_NAMES(X)   X(MTL_SCHEDULE_CONSTANT, "constant") X(MTL_SCHEDULE_STEP, "step") \
                                X(MTL_SCHEDULE_EXPONENTIAL, "exponential") X(MTL_SCHEDULE_LINEAR, "linear") \
                                X(MTL_SCHEDULE_COSINE, "cosine") X(MTL_SCHEDULE_PLATEAU, "plateau") \
                                X(MTL_SCHEDULE_ONE_CYCLE, "one-cycle")
#define MTL_BALANCE_NAMES(X)    X(MTL_BALANCE_STATIC, "static") X(MTL_BALANCE_INITIAL, "initial") \
                                X(MTL_BALANCE_ITEMS, "items") X(MTL_BALANCE_UNCERTAINTY, "uncertainty") \
                                X(MTL_BALANCE_DWA, "dwa") X(MTL_BALANCE_RANDOM, "random") \
                                X(MTL_BALANCE_IMTL, "imtl") X(MTL_BALANCE_GRADNORM, "gradnorm")
#define MTL_SURGERY_NAMES(X)    X(MTL_SURGERY_NONE, "none") X(MTL_SURGERY_PCGRAD, "pcgrad") \
                                X(MTL_SURGERY_GRADVAC, "gradvac") X(MTL_SURGERY_MGDA, "mgda") \
                                X(MTL_SURGERY_CAGRAD, "cagrad") X(MTL_SURGERY_ALIGNED, "aligned") \
                                X(MTL_SURGERY_UPGRAD, "upgrad")
#define MTL_SAMPLER_NAMES(X)    X(MTL_SAMPLER_PROPORTIONAL, "proportional") X(MTL_SAMPLER_ROUND_ROBIN, \
                                "round-robin") \
                                X(MTL_SAMPLER_TEMPERATURE, "temperature") X(MTL_SAMPLER_UNIFORM, "uniform") \
                                X(MTL_SAMPLER_ANNEALED, "annealed") X(MTL_SAMPLER_TOGETHER, "together")
#define MTL_CURRICULUM_NAMES(X) X(MTL_CURRICULUM_NONE, "none") X(MTL_CURRICULUM_LENGTH, "length")
#define MTL_INIT_NAMES(X)       X(MTL_INIT_UNIFORM, "uniform") X(MTL_INIT_NORMAL, "normal") \
                                X(MTL_INIT_CONSTANT, "constant") X(MTL_INIT_XAVIER, "xavier") \
                                X(MTL_INIT_HE, "he") X(MTL_INIT_ORTHOGONAL, "orthogonal") \
                                X(MTL_INIT_IDENTITY, "identity")

/* ---- descs: one field table each --------------------------------------------------------------------------
   A row is X(type, name, default, low, high, names, help). It declares the member, and it drives the default
   that stands for 0, validation, the model file, `mtl info`, the command's options and the reference page.
   Types:
       MTL_INT int   MTL_FLOAT float   MTL_FLAG int 0/1   MTL_CHOICE int out of a name list (names: which)
       MTL_SIZE size_t   MTL_SEED unsigned long long   MTL_INTS int[MTL_MAX_HIDDEN], ends at the first 0
   and, standing before all of these, what points to memory that a model copies (low 1: it must be given):
       MTL_NAME text   MTL_TEXTS [n] texts   MTL_REALS [n] floats (names: the member that says n)   MTL_MIX
       MTL_LIST an array of descs and their number (names: of what)   MTL_OWN a row of a kind of the program's
       and its options (names: which table)
   The optimiser's constants (momentum, betas, epsilon, l1, l2, decay) stand for the shortest decimal number
   of their float: 0.999f means 0.999, since 1 - 0.999f would be off by 1e-5 of itself. */
#define MTL__MEMBER(type, name, preset, low, high, names, help) MTL__MEMBER_##type(name, names)
#define MTL__MEMBER_MTL_INT(name, names)     int name;
#define MTL__MEMBER_MTL_FLOAT(name, names)   float name;
#define MTL__MEMBER_MTL_FLAG(name, names)    int name;
#define MTL__MEMBER_MTL_CHOICE(name, names)  int name;
#define MTL__MEMBER_MTL_SIZE(name, names)    size_t name;
#define MTL__MEMBER_MTL_SEED(name, names)    unsigned long long name;
#define MTL__MEMBER_MTL_INTS(name, names)    int name[MTL_MAX_HIDDEN];
#define MTL__MEMBER_MTL_NAME(name, names)    const char *name;
#define MTL__MEMBER_MTL_TEXTS(name, names)   const char *const *name;
#define MTL__MEMBER_MTL_REALS(name, names)   const float *name;
#define MTL__MEMBER_MTL_MIX(name, names)     mtl_mix_desc name;
#define MTL__MEMBER_MTL_LIST(name, names)    const mtl_##names##_desc *name; size_t names##_count;
#define MTL__MEMBER_MTL_OWN(name, names)     const mtl_##names##_kind *name; const void *options;

/* Rows of kinds that are a program's own: see "kinds" below. */
typedef struct mtl_input_kind mtl_input_kind;
typedef struct mtl_column_kind mtl_column_kind;
typedef struct mtl_mix_kind mtl_mix_kind;
typedef struct mtl_task_kind mtl_task_kind;
typedef struct mtl_penalty_kind mtl_penalty_kind;

/* An input: token ids (vocabulary > 0), looked up in an embedding, or rows of numbers (features > 0). */
#define MTL_INPUT_FIELDS(X) \
    X(MTL_NAME,   name,         0, 1, 1, MTL_NONE, \
      "letters, digits, _ and -; unique among inputs, columns and tasks") \
    X(MTL_TEXTS,  words,        0, 0, 0, vocabulary, \
      "the words themselves, NULL: ids only. Word 0 stands for unknown ones") \
    X(MTL_NAME,   reads,        0, 0, 0, MTL_NONE, \
      "an input before it whose ids or rows it reads; NULL: a batch has its own") \
    X(MTL_OWN,    own,          0, 0, 0, input, "a row of the program's own kinds, which wins over kind") \
    X(MTL_CHOICE, kind, MTL_INPUT_DEFAULT, 0, MTL_INPUT_COUNT - 1, MTL_INPUT, \
      "what a step has; default: by which of vocabulary and features is given") \
    X(MTL_INT,    vocabulary,   0, 0, 100000000, MTL_NONE, \
      "token ids 0 .. vocabulary-1; 0: this input is rows of features") \
    X(MTL_INT,    width,      128, 1, 1000000, MTL_NONE, "size of a token's embedding") \
    X(MTL_INT,    features,     0, 0, 1000000, MTL_NONE, \
      "numbers in a feature row; 0: this input is token ids") \
    X(MTL_FLAG,   padding_zero, 0, 0, 1, MTL_NONE, \
      "token id 0 is padding: its embedding is zero and never learns") \
    X(MTL_FLOAT,  scale,        1, 0, 1e6, MTL_NONE, "embeddings are multiplied by this") \
    X(MTL_FLOAT,  dropout,      0, 0, 0.99, MTL_NONE, "share of the input's values dropped in training") \
    X(MTL_FLAG,   dropout_per_sequence, 0, 0, 1, MTL_NONE, \
      "drop the same columns at all steps of a sequence") \
    X(MTL_FLAG,   lowercase,    0, 0, 1, MTL_NONE, "text is lower-cased before it is looked up") \
    X(MTL_FLAG,   digits,       0, 0, 1, MTL_NONE, "every digit is read as 0")
typedef struct mtl_input_desc { MTL_INPUT_FIELDS(MTL__MEMBER) } mtl_input_desc;

/* Where a column or a task takes its rows from: inputs and columns by their names, tasks' outputs (TASK) and
   distributions (TASK.probabilities), mixed into one. Kinds, for sources x_1 .. x_n; OWNER is the column or
   task that reads the mix:
       concat         side by side
       sum            x_1 + .. + x_n
       gate           n = 2: g * x_1 + (1 - g) * x_2 with g = sigmoid(W by + b)
       experts        sum_i w_i x_i with w = softmax(W by + b)       Ma et al. 2018 (by: the input), Tang et
                      al. 2020
       cross-stitch   sum_i a_i x_i with numbers a_i that are learnt             Misra et al. 2016
       levels         c sum_i softmax(s)_i x_i with s_i and c that are learnt    Peters et al. 2018
       reversal       as concat; the gradient that goes back is multiplied by -reversal    Ganin & Lempitsky
                      2015
   Tensors: OWNER.gate.weight [width of x_1][width of by] and .bias; OWNER.gates.weight [n][width of by] and
   .bias; OWNER.stitch.weight [n]; OWNER.levels.weight [n] and .scale [1]. A gate's g and the experts' w can
   be observed as OWNER.gate and OWNER.gates. All but concat and reversal take sources of equal width. */
#define MTL_MIX_FIELDS(X) \
    X(MTL_NAME,   from,         0, 0, 0, MTL_NONE, \
      "names separated by '+', e.g. words+shape; NULL: column: all inputs; task: the last column") \
    X(MTL_NAME,   by,           0, 0, 0, MTL_NONE, "what a gate reads, as `from`; NULL: the sources") \
    X(MTL_NAME,   stop,         0, 0, 0, MTL_NONE, \
      "names among those of from and by that no gradient goes back into, separated by '+'; *: all") \
    X(MTL_OWN,    own,          0, 0, 0, mix, "a row of the program's own kinds, which wins over kind") \
    X(MTL_CHOICE, kind, MTL_MIX_CONCAT, 1, MTL_MIX_COUNT - 1, MTL_MIX, "how several sources become one") \
    X(MTL_FLAG,   per_sequence, 0, 0, 1, MTL_NONE, \
      "experts: one gate for a sequence, from the mean of its steps") \
    X(MTL_FLOAT,  share,      0.9, 0, 1, MTL_NONE, \
      "cross-stitch: what the first source's factor starts at; the others share the rest") \
    X(MTL_FLOAT,  reversal,     1, 0, 1e6, MTL_NONE, "reversal: the gradient is multiplied by minus this")
typedef struct mtl_mix_desc { MTL_MIX_FIELDS(MTL__MEMBER) } mtl_mix_desc;

/* A cell: one recurrent layer in one direction. */
#define MTL_CELL_FIELDS(X) \
    X(MTL_CHOICE, cell,      MTL_CELL_LSTM, 1, MTL_CELL_COUNT - 1, MTL_CELL, "recurrent cell") \
    X(MTL_INT,    hidden,      128, 1, 1000000, MTL_NONE, "units of each direction") \
    X(MTL_CHOICE, activation, MTL_ACTIVATION_TANH, 1, 4, MTL_ACTIVATION, "of the plain RNN") \
    X(MTL_CHOICE, reset,      MTL_RESET_AFTER, 1, 2, MTL_RESET, \
      "GRU: reset gate after (PyTorch) or before the hidden product") \
    X(MTL_FLAG,   no_bias,       0, 0, 1, MTL_NONE, "cells without bias vectors") \
    X(MTL_FLOAT,  forget_bias,   0, -100, 100, MTL_NONE, "LSTM: added to the forget gate's initial bias")
typedef struct mtl_cell_desc { MTL_CELL_FIELDS(MTL__MEMBER) } mtl_cell_desc;

/* A column: a stack of recurrent layers of such cells. */
#define MTL_COLUMN_FIELDS(X) \
    X(MTL_NAME,   name,         0, 1, 1, MTL_NONE, "NULL: encoder when there is one column") \
    X(MTL_MIX,    input,        0, 0, 0, MTL_NONE, "where its rows come from") \
    X(MTL_NAME,   trains,       0, 0, 0, MTL_NONE, \
      "names of the tasks whose losses may train it, with +; NULL: all that read it") \
    X(MTL_OWN,    own,          0, 0, 0, column, "a row of the program's own kinds, which wins over kind") \
    X(MTL_CHOICE, kind, MTL_COLUMN_CELLS, 1, MTL_COLUMN_COUNT - 1, MTL_COLUMN, "what it is made of") \
    MTL_CELL_FIELDS(X) \
    X(MTL_INT,    layers,        1, 1, 64, MTL_NONE, "layers above one another") \
    X(MTL_FLAG,   bidirectional, 0, 0, 1, MTL_NONE, \
      "a second set of cells reads each sequence from its end") \
    X(MTL_FLOAT,  dropout,       0, 0, 0.99, MTL_NONE, "share of the column's outputs dropped in training") \
    X(MTL_FLOAT,  dropout_between, 0, 0, 0.99, MTL_NONE, \
      "the same between its layers (one layer: no effect)") \
    X(MTL_FLAG,   dropout_per_sequence, 0, 0, 1, MTL_NONE, \
      "drop the same columns at all steps of a sequence") \
    X(MTL_FLOAT,  rate,          1, 0, 1e6, MTL_NONE, "its learning rate as a multiple of the trainer's")
typedef struct mtl_column_desc { MTL_COLUMN_FIELDS(MTL__MEMBER) } mtl_column_desc;

/* A task: level x kind, a tap into the encoder, a head, a loss and a weight in the joint loss sum_k weight_k
   L_k. */
#define MTL_TASK_FIELDS(X) \
    X(MTL_NAME,   name,         0, 1, 1, MTL_NONE, "as an input's") \
    X(MTL_MIX,    tap,          0, 0, 0, MTL_NONE, "where the head's rows come from") \
    X(MTL_TEXTS,  labels,       0, 0, 0, classes, "names of the classes, or NULL") \
    X(MTL_REALS,  class_weights, 0, 0, 0, classes, \
      "weight of each class in the mean, as PyTorch's; NULL: 1") \
    X(MTL_OWN,    own,          0, 0, 0, task, "a row of the program's own kinds, which wins over kind") \
    X(MTL_CHOICE, kind,       MTL_TASK_CLASS, 0, MTL_TASK_COUNT - 1, MTL_TASK, \
      "what is predicted: a class, real numbers, any number of classes (multi), or a batch's data set, " \
      "never scored (origin)") \
    X(MTL_CHOICE, level,      MTL_LEVEL_SEQUENCE, 0, 1, MTL_LEVEL, "one target a sequence, or one a step") \
    X(MTL_INT,    classes,       0, 0, 100000000, MTL_NONE, "classes of a class or multi task") \
    X(MTL_INT,    width,         1, 1, 1000000, MTL_NONE, "numbers in a real target") \
    X(MTL_FLOAT,  weight,        1, 0, 1e6, MTL_NONE, "weight in the joint loss") \
    X(MTL_FLAG,   evaluate_only, 0, 0, 1, MTL_NONE, "scored, never trained") \
    X(MTL_CHOICE, loss,       MTL_LOSS_DEFAULT, 0, 5, MTL_LOSS, \
      "default: cross-entropy for classes, mse for numbers, bce for multi") \
    X(MTL_FLOAT,  huber_delta,   1, 0, 1e6, MTL_NONE, "where the Huber loss turns from square to straight") \
    X(MTL_FLOAT,  label_smoothing, 0, 0, 0.99, MTL_NONE, "share of a class target spread over all classes") \
    X(MTL_CHOICE, pool,       MTL_POOL_LAST, 1, 3, MTL_POOL, \
      "sequence level: how a sequence's rows become one") \
    X(MTL_INTS,   hidden,        0, 0, 1000000, MTL_NONE, "units of the head's hidden dense layers") \
    X(MTL_CHOICE, activation, MTL_ACTIVATION_RELU, 1, 4, MTL_ACTIVATION, "of the hidden dense layers") \
    X(MTL_FLOAT,  dropout,       0, 0, 0.99, MTL_NONE, \
      "share of the head's inputs and hidden values dropped in training") \
    X(MTL_FLAG,   per_step,      0, 0, 1, MTL_NONE, \
      "sequence level, classes: predicted at each step, and the steps vote") \
    X(MTL_FLOAT,  weight_end,   -1, -1, 1e6, MTL_NONE, \
      "what the weight moves to, linearly over the trainer's total_steps; -1: it stays")
typedef struct mtl_task_desc { MTL_TASK_FIELDS(MTL__MEMBER) } mtl_task_desc;

/* A penalty: a loss without targets that is added to the joint loss, weight times
       tie         sum_i ||a_i - b_i||^2 of the corresponding tensors of a and b             Duong et al. 2015
       anchor      the same of a's tensors and the values that they had when the model's first trainer was
                   made. Buffers NAME.TENSOR hold these, so that training goes on towards them after a resume;
                   `*tensor->set = 0` of one of them has the next trainer take them anew
       orthogonal  ||A^T B||_F^2 / rows^2 of the rows of a and b       Bousmalis et al. 2016, Liu et al. 2017
   a, b: of tie and anchor whatever tensors' names begin with, up to a dot (a column's name, TASK.output); of
   orthogonal what a mix may name. An update of several micro-batches takes the mean of their penalties. What
   a penalty names is one part for clip_norm, and `trains` of a column does not keep penalties out. */
#define MTL_PENALTY_FIELDS(X) \
    X(MTL_NAME,   name,         0, 1, 1, MTL_NONE, "as an input's") \
    X(MTL_NAME,   a,            0, 0, 0, MTL_NONE, "what it is about") \
    X(MTL_NAME,   b,            0, 0, 0, MTL_NONE, "the other one; anchor: NULL") \
    X(MTL_OWN,    own,          0, 0, 0, penalty, "a row of the program's own kinds, which wins over kind") \
    X(MTL_CHOICE, kind, MTL_PENALTY_TIE, 1, MTL_PENALTY_COUNT - 1, MTL_PENALTY, "what is kept small") \
    X(MTL_FLOAT,  weight,       1, 0, 1e6, MTL_NONE, "weight in the joint loss")
typedef struct mtl_penalty_desc { MTL_PENALTY_FIELDS(MTL__MEMBER) } mtl_penalty_desc;

#define MTL_MODEL_FIELDS(X) \
    X(MTL_LIST,   inputs,        0, 1, 1, input, "one at least") \
    X(MTL_LIST,   columns,       0, 1, 1, column, "in any order; none: the model has the column `encoder`") \
    X(MTL_LIST,   tasks,         0, 1, 1, task, "one at least") \
    X(MTL_LIST,   penalties,     0, 0, 0, penalty, "or none") \
    X(MTL_SEED,   seed,          1, 0, 0, MTL_NONE, "of the initial parameters")
typedef struct mtl_model_desc {
    MTL_MODEL_FIELDS(MTL__MEMBER)
    mtl_column_desc encoder;                /* one column over all inputs, used when column_count is 0 */
} mtl_model_desc;

#define MTL_TRAINER_FIELDS(X) \
    X(MTL_CHOICE, optimizer, MTL_OPTIMIZER_ADAM, 1, 4, MTL_OPTIMIZER, "update rule") \
    X(MTL_FLOAT,  lr,        1e-3, 0, 1e6, MTL_NONE, "learning rate") \
    X(MTL_FLOAT,  momentum,  0, 0, 1, MTL_NONE, "SGD and RMSProp") \
    X(MTL_FLAG,   nesterov,  0, 0, 1, MTL_NONE, "SGD: Nesterov's momentum") \
    X(MTL_FLOAT,  beta1,     0.9, 0, 0.999999, MTL_NONE, "Adam: decay of the first moment") \
    X(MTL_FLOAT,  beta2,     0.999, 0, 0.999999, MTL_NONE, \
      "Adam: decay of the second moment; RMSProp: 0.99 is PyTorch's alpha") \
    X(MTL_FLOAT,  epsilon,   1e-8, 0, 1, MTL_NONE, "Adam, RMSProp: added to the root of the second moment") \
    X(MTL_FLAG,   lazy,      0, 0, 1, MTL_NONE, \
      "embedding rows that a step does not touch are left alone (moments too)") \
    X(MTL_FLOAT,  l2,        0, 0, 1e6, MTL_NONE, "added to the gradient: l2 times the parameter") \
    X(MTL_FLOAT,  l1,        0, 0, 1e6, MTL_NONE, "added to the gradient: l1 times the parameter's sign") \
    X(MTL_FLOAT,  decay,     0, 0, 1e6, MTL_NONE, "decoupled weight decay (AdamW)") \
    X(MTL_FLAG,   decay_biases, 0, 0, 1, MTL_NONE, "l1, l2 and decay act on biases too (PyTorch: yes)") \
    X(MTL_FLOAT,  clip_norm, 0, 0, 1e30, MTL_NONE, \
      "largest norm of the whole gradient, \
          or of that of each part that nothing connects to others; 0: no limit") \
    X(MTL_FLOAT,  clip_value, 0, 0, 1e30, MTL_NONE, \
      "largest absolute value of a gradient element; 0: no limit") \
    X(MTL_CHOICE, schedule,  MTL_SCHEDULE_CONSTANT, 1, 7, MTL_SCHEDULE, "how the learning rate moves") \
    X(MTL_INT,    warmup,    0, 0, 2000000000, MTL_NONE, "steps over which the rate rises from 0") \
    X(MTL_INT,    total_steps, 0, 0, 2000000000, MTL_NONE, \
      "steps of linear, cosine and one-cycle; 0: mtl_fit counts them") \
    X(MTL_INT,    schedule_every, 1000, 1, 2000000000, MTL_NONE, \
      "steps between two cuts of step and exponential") \
    X(MTL_FLOAT,  schedule_factor, 0.5, 0, 1, MTL_NONE, "what step, exponential and plateau multiply by") \
    X(MTL_FLOAT,  lr_final,  0, 0, 1, MTL_NONE, "where linear, cosine and one-cycle end, as a share of lr") \
    X(MTL_INT,    plateau_patience, 2, 1, 1000000, MTL_NONE, "evaluations without gain before plateau cuts") \
    X(MTL_FLOAT,  average,   0, 0, 1, MTL_NONE, \
      "decay of the exponential average of the weights; 0: none is kept") \
    X(MTL_SEED,   seed,      1, 0, 0, MTL_NONE, "of dropout") \
    X(MTL_INT,    threads,   1, 1, 1024, MTL_NONE, "workers, the caller's thread among them") \
    X(MTL_CHOICE, isa,       MTL_ISA_AUTO, 0, 5, MTL_ISA, "instruction set of the kernels") \
    X(MTL_SIZE,   max_rows,  0, 0, 0, MTL_NONE, \
      "most rows (steps of all sequences) in a batch; 0: memory grows on demand") \
    X(MTL_SIZE,   max_sequences, 0, 0, 0, MTL_NONE, "most sequences in a batch; 0: max_rows") \
    X(MTL_SIZE,   max_steps, 0, 0, 0, MTL_NONE, "longest sequence; 0: max_rows") \
    X(MTL_CHOICE, precision, MTL_PRECISION_F32, 1, 2, MTL_PRECISION, \
      "of products in training; bf16 needs AVX512-BF16, else f32 is used") \
    X(MTL_CHOICE, balance,   MTL_BALANCE_STATIC, 1, MTL_BALANCE_GRADNORM, MTL_BALANCE, \
      "what weighs tasks' losses against one another, beside their weights") \
    X(MTL_FLOAT,  balance_rate, 1, 0, 1e6, MTL_NONE, \
      "uncertainty, imtl, gradnorm: rate of what they learn, as a multiple of lr") \
    X(MTL_FLOAT,  balance_temperature, 2, 1e-3, 1e6, MTL_NONE, \
      "dwa: the higher, the more alike the weights") \
    X(MTL_INT,    balance_window, 0, 0, 2000000000, MTL_NONE, \
      "dwa: updates whose mean losses are compared with those before; 0: mtl_fit's epoch") \
    X(MTL_FLOAT,  balance_alpha, 1.5, 0, 100, MTL_NONE, \
      "gradnorm: how hard tasks that learn slowly are pushed") \
    X(MTL_CHOICE, surgery,   MTL_SURGERY_NONE, 1, MTL_SURGERY_UPGRAD, MTL_SURGERY, \
      "what makes one gradient of the tasks' gradients in the parameters that they share") \
    X(MTL_FLOAT,  surgery_c, 0.5, 0, 100, MTL_NONE, "cagrad: how far from the sum it may go") \
    X(MTL_FLOAT,  surgery_beta, 0.01, 0, 1, MTL_NONE, \
      "gradvac: share of an update in the mean cosine of two tasks")
/* The caller's own job system: run job(context, i) for i = 0 .. count-1, on any threads in any order; return
   when all are done. */
typedef void (*mtl_job)(void *context, size_t index);
typedef struct mtl_scheduler {
    void *user;
    void (*parallel_for)(void *user, size_t count, mtl_job job, void *context);
    size_t threads;                         /* how many jobs run at once, for the sizes of jobs; 0: not
                                               told */
} mtl_scheduler;
typedef struct mtl_allocator {              /* NULL members: malloc and free */
    void *user;
    void *(*allocate)(void *user, size_t bytes);
    void (*release)(void *user, void *memory);
} mtl_allocator;
typedef struct mtl_trainer_desc {
    const char *name;                       /* unused; may stay NULL */
    MTL_TRAINER_FIELDS(MTL__MEMBER)
    const mtl_scheduler *scheduler;         /* NULL: `threads` workers of the built-in pool */
} mtl_trainer_desc;

#define MTL_FIT_FIELDS(X) \
    X(MTL_INT,    epochs,     12, 1, 1000000, MTL_NONE, "passes over the training data") \
    X(MTL_INT,    batch,      32, 1, 1000000, MTL_NONE, "sequences in a batch") \
    X(MTL_INT,    patience,    0, 0, 1000000, MTL_NONE, \
      "stop after this many epochs without a better score; 0: never") \
    X(MTL_CHOICE, sampler, MTL_SAMPLER_PROPORTIONAL, 1, 6, MTL_SAMPLER, "which data set a batch comes from") \
    X(MTL_FLOAT,  temperature, 2, 1, 1e6, MTL_NONE, \
      "samplers temperature, and annealed in its last epoch: set s is drawn by size^(1/t)") \
    X(MTL_INT,    bucket,     50, 1, 1000000, MTL_NONE, \
      "batches of similar length are cut from this many batches' worth of sequences") \
    X(MTL_INT,    accumulate,  1, 1, 10000, MTL_NONE, "batches added up to one update") \
    X(MTL_SEED,   seed,        1, 0, 0, MTL_NONE, "of the order of the data") \
    X(MTL_CHOICE, curriculum, MTL_CURRICULUM_NONE, 1, 2, MTL_CURRICULUM, \
      "what comes first in a data set: length: its batches by rising length, in the first epochs") \
    X(MTL_FLOAT,  curriculum_share, 0.5, 0, 1, MTL_NONE, "share of the epochs in which it does") \
    X(MTL_INT,    checkpoint_every, 0, 0, 2000000000, MTL_NONE, \
      "updates between two checkpoints; 0: none but that of a run that is stopped")

#define MTL_PREDICTOR_FIELDS(X) \
    X(MTL_INT,    threads,    1, 1, 1024, MTL_NONE, "workers, the caller's thread among them") \
    X(MTL_CHOICE, isa,    MTL_ISA_AUTO, 0, 5, MTL_ISA, "instruction set of the kernels") \
    X(MTL_SIZE,   max_rows,   0, 0, 0, MTL_NONE, "most rows in a batch; 0: memory grows on demand") \
    X(MTL_SIZE,   max_sequences, 0, 0, 0, MTL_NONE, "most sequences in a batch; 0: max_rows") \
    X(MTL_SIZE,   max_steps,  0, 0, 0, MTL_NONE, "longest sequence; 0: max_rows")
typedef struct mtl_predictor_desc {
    const char *name;                       /* unused; may stay NULL */
    MTL_PREDICTOR_FIELDS(MTL__MEMBER)
    const mtl_scheduler *scheduler;
} mtl_predictor_desc;

/* A row of a field table, to be read by programs (the command's --set, reference pages). */
enum { MTL_INT, MTL_FLOAT, MTL_FLAG, MTL_CHOICE, MTL_SIZE, MTL_SEED, MTL_INTS,      /* can be set from text */
       MTL_NAME, MTL_TEXTS, MTL_REALS, MTL_MIX, MTL_LIST, MTL_OWN };                     /* point to memory */
enum { MTL_DESC_INPUT, MTL_DESC_COLUMN, MTL_DESC_TASK, MTL_DESC_MODEL, MTL_DESC_TRAINER, MTL_DESC_FIT,
       MTL_DESC_PREDICTOR, MTL_DESC_MIX, MTL_DESC_CELL, MTL_DESC_SHARE, MTL_DESC_PENALTY,
       MTL_DESC_COUNT };
typedef struct mtl_choice { int value; const char *name; } mtl_choice;
typedef struct mtl_field {
    const char *name;
    int type;                               /* MTL_INT .. MTL_OWN */
    size_t offset;                          /* of the member in its desc */
    double preset, low, high;               /* what 0 stands for; smallest and largest value. low == high: no
                                               limits */
    const char *help;
    const mtl_choice *choices;              /* MTL_CHOICE: ends with a NULL name */
    size_t count;                           /* MTL_TEXTS, MTL_REALS, MTL_LIST: offset of the member that
                                               counts; MTL_OWN: of `options` */
    int of;                                 /* MTL_LIST, MTL_OWN: MTL_DESC_* */
} mtl_field;
/* The fields of a desc (MTL_DESC_*) that can be set from text, *count rows. Static memory; NULL for a number
   that is none. */
MTL_DEF const mtl_field *mtl_fields(int desc, size_t *count);
/* Sets a member from text ("lstm", "0.3", "64,32", "1e-3", "true"). Errors: FIELD, naming the field and its
   range. */
MTL_DEF mtl_status mtl_field_set(const mtl_field *field, void *desc, const char *text, mtl_error *err);
/* Writes a member's text, with defaults put in for zeros, into out[size]. Returns out. */
MTL_DEF char *mtl_field_get(const mtl_field *field, const void *desc, char *out, size_t size);
/* Checks every member against its range and puts defaults in for zeros. what: the name that messages begin
   with. */
MTL_DEF mtl_status mtl_desc_check(int desc, void *members, const char *what, mtl_error *err);

/* ---- memory -------------------------------------------------------------------------------------------- */

/* Bump allocation: pushes are aligned to 64 bytes and never freed one by one; mark and release undo all
   pushes since. */
typedef struct mtl_arena {
    size_t used;                            /* bytes pushed in all chunks, alignment included */
    size_t high_water;                      /* the most that `used` has been */
    unsigned char *base;                    /* current chunk */
    size_t chunk_used, chunk_size;
    void *chunks;                           /* newest chunk's header; chunks are linked downwards */
    int grows;                              /* 1: takes further chunks from the allocator; 0: fails when
                                               full */
    int counting;                           /* 1: hands out addresses that must not be touched; measures */
    struct mtl_arena *shadow;               /* counting: an arena with memory, for the small structures that
                                               must really exist */
    long long fail_after;                   /* test hook: > 0: the push that counts it down to 0 fails,
                                               once */
    mtl_allocator allocator;
} mtl_arena;
typedef struct mtl_arena_mark { size_t used, chunk_used; void *chunks; } mtl_arena_mark;

/* An arena over the caller's buffer (buffer != NULL), or one that grows from the allocator (NULL: malloc) in
   chunks. */
MTL_DEF void mtl_arena_init(mtl_arena *arena, void *buffer, size_t bytes, const mtl_allocator *allocator);
/* Gives chunks back to the allocator; a caller's buffer is left alone. */
MTL_DEF void mtl_arena_destroy(mtl_arena *arena);
/* `bytes` bytes aligned to 64, not cleared; NULL when the arena is full or the allocator has no more. 0 bytes
   are a valid push. */
MTL_DEF void *mtl_arena_push(mtl_arena *arena, size_t bytes);
MTL_DEF mtl_arena_mark mtl_arena_save(const mtl_arena *arena);
/* Undoes all pushes since mark was taken. Chunks taken since are given back. */
MTL_DEF void mtl_arena_release(mtl_arena *arena, mtl_arena_mark mark);
/* Test hook: the count-th push from now on fails (1: the next). 0 turns it off. */
MTL_DEF void mtl_arena_fail_next(mtl_arena *arena, long long count);

/* ---- parameters ---------------------------------------------------------------------------------------- */

enum { MTL_GRAD_NONE, MTL_GRAD_ROWS, MTL_GRAD_DENSE };
enum { MTL_TENSOR_WEIGHT, MTL_TENSOR_BIAS, MTL_TENSOR_EMBEDDING, MTL_TENSOR_BUFFER };

/* Rows [first, first + count) that begin otherwise: as factor * value + addend. */
typedef struct mtl_init_rows {
    size_t first, count;
    float factor, addend;
} mtl_init_rows;

/* One named parameter: a view into its set's flat block. Shapes and names are PyTorch's. Or a buffer: state
   that is no parameter (means and scales, running statistics), named "buffers.OWNER.WHAT", in memory of its
   own. It is saved, loaded, transferred, exported and imported as parameters are, but never optimised.

   Its initial values follow a rule (`init`) with one number (`initial`). A tensor of `gates` matrices above
   one another is filled matrix by matrix, each [rows][columns] with rows = shape[0] / gates:
       uniform      U(-initial, initial)                    normal    N(0, initial^2); initial 0: N(0, 1)
       constant     initial
   and, as factors of what follows, where an `initial` of 0 means 1:
       xavier       U(-a, a) with a^2 = 6 / (rows + columns)                       Glorot & Bengio 2010
       he           N(0, 2 / columns)                                              He et al. 2015
       orthogonal   random rows (columns, when these are fewer) of length 1, at right angles to one another
                                                                                   Saxe et al. 2014
       identity     1 on the diagonal, else 0                                      Le et al. 2015 */
typedef struct mtl_tensor {
    const char *name;
    int dims;                               /* 1 or 2 */
    size_t shape[2];                        /* [rows][columns], row-major; a vector has shape[1] = 1 */
    size_t count;                           /* elements */
    size_t offset;                          /* in the block, a multiple of 16; of a buffer 0 */
    size_t index;                           /* among its set's parameters; of a buffer 0 */
    mtl_real *value;
    int role;                               /* MTL_TENSOR_* */
    int frozen;                             /* 1: no gradient is computed for it, no update changes it */
    int no_decay;                           /* 1: l1, l2 and decay leave it alone */
    size_t component;                       /* which connected part of a model it belongs to: see clip_norm */
    float rate;                             /* its learning rate as a multiple of the trainer's; 1 */
    float initial;                          /* the number of its rule of initial values; with the default
                                               rule 0 means N(0, 1) */
    int init;                               /* MTL_INIT_*: the rule */
    size_t gates;                           /* matrices that it consists of; 1 */
    mtl_init_rows init_rows;                /* count 0: all rows follow the rule */
    int *set;                               /* buffers, 0: it holds nothing, and files and transfers go
                                               without it. Several may share one. NULL: always set */
} mtl_tensor;
/* The name of a rule of initial values; NULL: it is none. */
MTL_DEF const char *mtl_init_name(int init);

typedef struct mtl_parameters mtl_parameters;   /* a set of tensors with the packed forms that products
                                                   read */
typedef struct mtl_gradients mtl_gradients;     /* gradients of all of them or of some: state, rows, values */
typedef struct mtl_packings mtl_packings;       /* the weights packed for backward products */

typedef struct mtl_gradient {
    size_t row_count;                       /* ROWS: how many rows */
    int state;                              /* MTL_GRAD_*: NONE: no loss reached it and `value` means
                                               nothing */
    int *rows;                              /* ROWS: which rows, ascending; the others' values mean nothing */
    mtl_real *value;                        /* the tensor's shape */
} mtl_gradient;
/* The gradient of a tensor after a backward pass; NULL when there is none (frozen, or left out). Memory of
   the set. */
MTL_DEF mtl_gradient *mtl_gradients_get(mtl_gradients *gradients, const mtl_tensor *tensor);

/* ---- the run, its tape, activations -------------------------------------------------------------------- */

typedef struct mtl_packing mtl_packing;     /* sequences, and the order of their rows: >>batch */
/* Whose rows an activation's are: the steps of a packing's sequences, or the sequences themselves. A packing
   has one of each. */
typedef struct mtl_space {
    const mtl_packing *packing;
    int level;                              /* MTL_LEVEL_* */
} mtl_space;

/* Rows of values that a layer made, in packed order, and their gradient while a tape is played. */
typedef struct mtl_activation {
    size_t rows, width, stride;             /* stride >= width, in elements */
    mtl_real *value;
    mtl_real *grad;                         /* same layout; NULL before backward has written it */
    int grad_state;                         /* MTL_GRAD_NONE or _DENSE: the first write assigns, later ones
                                               add */
    int constant;                           /* 1: no gradient is wanted */
    const char *name;                       /* "" when it has none */
    const int *ids;                         /* rows of the same id are the same; [N] in the caller's order;
                                               NULL: nothing is known */
    struct mtl_activation *next;            /* the tape's list */
    const mtl_space *space;                 /* NULL: rows of no packing, e.g. a task's labelled ones */
} mtl_activation;

typedef struct mtl_run mtl_run;
typedef struct mtl_tape mtl_tape;
typedef void (*mtl_backward)(mtl_run *run, void *data);
typedef struct mtl_record {
    struct mtl_record *previous;
    mtl_backward backward;                  /* adds to the gradients of what it read, from output->grad */
    void *data;
    mtl_activation *output;                 /* the record is skipped while this has no gradient */
} mtl_record;
struct mtl_tape {
    mtl_record *last;
    mtl_activation *activations;
    size_t count;
    const mtl_record *mark;                 /* the last one of the shared part: mtl_tape_mark */
};
/* Called for every named activation as soon as it holds its values. rows are in packed order: see
   mtl_run_row. Values stay until the run is over, but in training a class task's probabilities only until the
   call returns. Called with the library's arithmetic: rounding to nearest, numbers below the smallest normal
   one are 0. */
typedef void (*mtl_observer)(void *user, const mtl_run *run, const mtl_activation *activation);

/* What every layer call takes: mtl_run_init makes one for layers of your own, mtl_trainer_run gives a
   trainer's. */
struct mtl_run {
    const void *kernels;                    /* the table in use: >>dispatch */
    const mtl_scheduler *scheduler;         /* NULL: one thread */
    mtl_arena *arena;                       /* scratch and everything that this run makes */
    mtl_tape *tape;                         /* NULL: inference, nothing is kept */
    mtl_gradients *gradients;               /* NULL: inference */
    const mtl_packing *packing;             /* the batch's */
    mtl_error *error;                       /* sticky; never NULL inside a run */
    unsigned long long seed, step;          /* dropout's random stream */
    unsigned long long stream;              /* counts the dropout calls of a step, .. */
    unsigned long long *streams;            /* .. where a model has parts that nothing connects, those of
                                               each; */
    size_t component;                       /* .. the part that runs now */
    int training;                           /* dropout on */
    mtl_observer observer;
    void *observer_user;
    mtl_packings *packings;                 /* what backward multiplies with; NULL: inference */
};

/* A run over `arena` with the kernels of isa (MTL_ISA_*); err (not NULL) is its sticky error. Set tape,
   gradients, packings, training, seed and scheduler afterwards as you need them. Error: UNSUPPORTED. */
MTL_DEF mtl_status mtl_run_init(mtl_run *run, mtl_arena *arena, int isa, mtl_error *err);
/* Packs a batch of `sequences` lengths for this run: activations made from now on are of these sequences,
   while those there are stay with theirs, so a run may work over several. Row n of a packed activation is
   found with mtl_run_row. Errors: RANGE, MEMORY. */
MTL_DEF mtl_status mtl_run_pack(mtl_run *run, const int *lengths, size_t sequences);
/* A new activation of rows x width, its values not set. Its space is the run's steps where rows is their
   number, or its sequences; a layer over other rows sets it, mostly to its input's. NULL (and a set error)
   when memory is out. name may be NULL. */
MTL_DEF mtl_activation *mtl_run_activation(mtl_run *run, const char *name, size_t rows, size_t width);
/* `bytes` bytes of the run's arena; NULL (and a set error) when memory is out. Must not be touched while
   run->arena->counting: a dry run, which measures memory and computes nothing. */
MTL_DEF void *mtl_run_push(mtl_run *run, size_t bytes);
/* A small structure that a record keeps: like mtl_run_push, but zeroed, and real memory in a dry run too. */
MTL_DEF void *mtl_run_make(mtl_run *run, size_t bytes);
/* Ends a layer's forward: shows `output` to the observer and, with a tape, records its backward. */
MTL_DEF void mtl_run_record(mtl_run *run, mtl_activation *output, mtl_backward backward, void *data);
/* Where backward writes the gradient of x: NULL if none is wanted. *add tells whether to add (1) or to assign
   (0). */
MTL_DEF mtl_real *mtl_run_grad(mtl_run *run, mtl_activation *x, int *add);
/* The same for a parameter, all of it. */
MTL_DEF mtl_real *mtl_run_tensor_grad(mtl_run *run, const mtl_tensor *tensor, int *add);
/* Row of `activation` that holds step t of the caller's sequence s, by its space; t is ignored where rows are
   sequences. activation->rows, which is no row, where it has no space. */
MTL_DEF size_t mtl_run_row(const mtl_run *run, const mtl_activation *activation, size_t s, size_t t);
/* How many rows the packing of x (NULL: the batch's) has by level: sequences, or all their steps; 0 where x
   is of no packing. */
MTL_DEF size_t mtl_run_rows(const mtl_run *run, const mtl_activation *x, int level);
/* Steps of the caller's sequence s; 0 for one behind the last, and in a dry run. So this visits all:
       for (s = 0; (steps = mtl_run_steps(run, x, s)) > 0; s++) */
MTL_DEF size_t mtl_run_steps(const mtl_run *run, const mtl_activation *x, size_t s);
/* Plays the tape from last to first: seeds each loss (1 x 1 activations) with its weight and runs the records
   that a gradient reaches. May be played again, for other losses or weights; gradients of parameters start
   afresh each time unless `accumulate`. Returns run->error->code. */
MTL_DEF mtl_status mtl_tape_backward(mtl_run *run, mtl_activation *const *losses, const mtl_real *weights,
                                     size_t count, int accumulate);
/* Marks the tape: what was recorded up to here is shared, what comes is each loss's own. A trainer marks its
   tape between columns and heads. */
MTL_DEF void mtl_tape_mark(mtl_run *run);
enum { MTL_TAPE_ALL, MTL_TAPE_OWN, MTL_TAPE_SHARED };
/* The same as mtl_tape_backward into `gradients` (NULL: activations' alone), for a part of the tape: OWN
   stops at the mark and leaves in the shared activations what the losses send there; SHARED goes on from the
   mark with what stands there (grad and grad_state): that of one OWN, or the caller's sum of several. Errors:
   ARGUMENT, MEMORY. */
MTL_DEF mtl_status mtl_tape_replay(mtl_run *run, mtl_gradients *gradients, int part,
                                   mtl_activation *const *losses, const mtl_real *weights, size_t count,
                                   int accumulate);

/* ---- layers, for those who build with them or look inside ---------------------------------------------- */

/* Sets of tensors. Order: init, add everything, allocate, fill values (or mtl_parameters_randomise),
   prepare. */
struct mtl_parameters {
    size_t count, capacity;                 /* tensors */
    size_t total;                           /* elements of the block, each tensor padded to a multiple of
                                               16 */
    mtl_tensor **tensors;
    mtl_real *block;
    struct mtl__matrix *matrices;           /* packed forms, a list: >>tensor */
    size_t packed_total, packed_t_total;    /* elements of all forward and all backward packings */
    size_t pairs_total;                     /* pairs of both packings in bfloat16 */
    mtl_arena *arena;
    /* Makes up for updates that wait (>>optimise) of `count` rows of an embedding; ids NULL: of all its rows;
       tensor NULL: of all embeddings. NULL: none wait. */
    void (*fresh)(void *owner, const mtl_tensor *tensor, const int *ids, size_t count);
    void *fresh_owner;
    size_t buffer_count, buffer_capacity;
    mtl_tensor **buffers;                   /* [buffer_count] they stand in no other list */
};
/* An empty set in `arena`, which must outlive it. */
MTL_DEF void mtl_parameters_init(mtl_parameters *set, mtl_arena *arena);
/* A zeroed structure of `bytes` bytes in the set's arena, real memory in a dry run too; NULL when memory is
   out. */
MTL_DEF void *mtl_parameters_make(mtl_parameters *set, size_t bytes, mtl_error *err);
/* A tensor of [rows][columns] (columns 0: a vector of `rows`). The name is copied. A buffer is frozen and has
   its memory, all zero, at once. NULL when memory is out. */
MTL_DEF mtl_tensor *mtl_parameters_add(mtl_parameters *set, const char *name, size_t rows, size_t columns,
                                       int role, mtl_error *err);
/* Lays out the block. After it no tensor can be added. */
MTL_DEF mtl_status mtl_parameters_allocate(mtl_parameters *set, mtl_error *err);
MTL_DEF mtl_tensor *mtl_parameters_find(const mtl_parameters *set, const char *name);
/* Fills all tensors, buffers too (but those that hold something by then), with their initial values, by the
   rule that each has by now; a tensor's depend on it, the seed and its name alone. */
MTL_DEF void mtl_parameters_randomise(mtl_parameters *set, unsigned long long seed);
/* Packs all weights for forward products. Call it after changing values by hand. isa: MTL_ISA_*. */
MTL_DEF mtl_status mtl_parameters_prepare(mtl_parameters *set, int isa, mtl_error *err);
/* Gradients for a set, in `arena`; NULL when memory is out. */
MTL_DEF mtl_gradients *mtl_gradients_create(const mtl_parameters *set, mtl_arena *arena, mtl_error *err);
/* The same for those tensors of a set alone whose wanted[index] is not 0, [set->count]; backward passes treat
   the others as frozen. */
MTL_DEF mtl_gradients *mtl_gradients_create_part(const mtl_parameters *set, const unsigned char *wanted,
                                                 mtl_arena *arena, mtl_error *err);
/* Room for all weights of a set packed for backward products, in `arena`; NULL when memory is out. */
MTL_DEF mtl_packings *mtl_packings_create(const mtl_parameters *set, mtl_arena *arena, mtl_error *err);
/* Packs them (after each change of values). */
MTL_DEF void mtl_packings_prepare(mtl_packings *packings, const mtl_run *run);

/* y = x W^T + b. Tensors NAME.weight [out][in] and NAME.bias [out]; initial values U(-1/sqrt(in),
   1/sqrt(in)), as PyTorch's Linear. */
typedef struct mtl_dense mtl_dense;
MTL_DEF mtl_dense *mtl_dense_add(mtl_parameters *set, const char *name, size_t inputs, size_t outputs,
                                 int no_bias, mtl_error *err);
/* x [rows][in] to y [rows][out]. Sum_i W[o][i] x[n][i] + b[o]. */
MTL_DEF mtl_activation *mtl_dense_forward(mtl_run *run, const mtl_dense *dense, mtl_activation *x,
                                          const char *name);

/* One recurrent layer in one direction. Tensors PREFIXweight_ih_lK, weight_hh_lK, bias_ih_lK, bias_hh_lK (+
   _reverse), PyTorch's shapes and gate order (LSTM i f g o, GRU r z n); initial values U(-1/sqrt(H),
   1/sqrt(H)). Memory of the set's arena. NULL on error: FIELD for a value out of its range, MEMORY. */
typedef struct mtl_cell mtl_cell;
MTL_DEF mtl_cell *mtl_cell_add(mtl_parameters *set, const char *prefix, const mtl_cell_desc *desc,
                               size_t inputs, int layer, int reverse, mtl_error *err);
/* States before the first and after the last step of each sequence, [B][H], in packed order; NULL members:
   zeros / not wanted. */
typedef struct mtl_cell_state {
    size_t reserved;
    mtl_activation *h, *c;
} mtl_cell_state;
/* x [N][I] to hidden states [N][H] by a cell of any kind; the sequences are those of x->space, whose level is
   STEP (else error ARGUMENT). initial may be NULL; final, when given, is filled with activations that
   gradients may be sent into. Memory is the run's; NULL when the run's error is set.
       RNN   h = f(W_ih x + b_ih + W_hh h' + b_hh)                                               Elman 1990
       GRU   r,z = s(W x + b + W h' + b);  n = tanh(W x + b + r*(W h' + b));  h = (1-z)*n + z*h'
                                                                                            Cho et al. 2014
       LSTM  i,f,o = s(..);  g = tanh(..);  c = f*c' + i*g;  h = o*tanh(c)
                                                            Hochreiter & Schmidhuber 1997; Gers et al. 2000 */
MTL_DEF mtl_activation *mtl_cell_forward(mtl_run *run, const mtl_cell *cell, mtl_activation *x,
                                         const mtl_cell_state *initial, mtl_cell_state *final);
/* The same for a cell of one kind; error ARGUMENT for a cell of another. */
MTL_DEF mtl_activation *mtl_rnn_forward(mtl_run *run, const mtl_cell *cell, mtl_activation *x,
                                        const mtl_cell_state *initial, mtl_cell_state *final);
MTL_DEF mtl_activation *mtl_gru_forward(mtl_run *run, const mtl_cell *cell, mtl_activation *x,
                                        const mtl_cell_state *initial, mtl_cell_state *final);
MTL_DEF mtl_activation *mtl_lstm_forward(mtl_run *run, const mtl_cell *cell, mtl_activation *x,
                                         const mtl_cell_state *initial, mtl_cell_state *final);

/* One sequence through one cell, a step at a time, in the order in which the steps come: what runs in a frame
   loop. For a stack, one stream per layer: what one's step returns is the next one's x. Weights are read
   where the cell's set has packed them, so prepare the set first; values may change between steps when they
   are packed again. */
typedef struct mtl_cell_stream mtl_cell_stream;
/* Bytes that mtl_cell_stream_init needs. */
MTL_DEF size_t mtl_cell_stream_size(const mtl_cell *cell);
/* A stream in the caller's buffer (aligned to 64), with the kernels of isa (MTL_ISA_*) and a state of zeros;
   nothing is allocated, here or later. Errors: ARGUMENT, UNSUPPORTED, BUFFER with the bytes needed. */
MTL_DEF mtl_cell_stream *mtl_cell_stream_init(void *buffer, size_t bytes, const mtl_cell *cell, int isa,
                                              mtl_error *err);
/* x [I], the next step, to h [H]: memory of the stream, until its next step or reset. Within rounding what
   mtl_cell_forward makes of the whole sequence. States below the smallest normal number (1.2e-38) become 0,
   whatever the caller's thread has set, which stands afterwards. */
MTL_DEF const mtl_real *mtl_cell_stream_step(mtl_cell_stream *stream, const mtl_real *x);
/* Starts a sequence anew from states h and, for an LSTM, c, [H] each; NULL: zeros. Either may be what the
   stream itself holds. */
MTL_DEF void mtl_cell_stream_reset(mtl_cell_stream *stream, const mtl_real *h, const mtl_real *c);
/* The cell states [H] after the last step, memory of the stream; NULL if the cell is no LSTM. */
MTL_DEF const mtl_real *mtl_cell_stream_memory(const mtl_cell_stream *stream);

/* ---- batches ------------------------------------------------------------------------------------------- */

/* One input of a batch: all steps of all sequences end to end, in the caller's order. Ids for a token input,
   rows for features. */
typedef struct mtl_input {
    const int *ids;                         /* [N] 0 .. vocabulary-1 */
    const mtl_real *rows;                   /* [N][features] */
} mtl_input;
/* Targets of one task: per sequence [B] or per step [N], by the task's level, in the caller's order. One of
   the three, or none. */
typedef struct mtl_target {
    const int *labels;                      /* class tasks: 0 .. classes-1, MTL_MISSING, or unknown */
    const mtl_real *values;                 /* real tasks: [items][width]; multi tasks: [items][classes], 1
                                               for each label that an item has, else 0; NaN: missing */
    const mtl_real *distribution;           /* class tasks: [items][classes], rows that sum to 1; first
                                               element NaN: missing */
    const char *const *unknown;             /* class tasks: [unknown_count] names that are no class of the
                                               model: the label MTL_UNKNOWN_LABEL - i stands for unknown[i].
                                               NULL: MTL_UNKNOWN_LABEL has no name. It then ends the gold
                                               span before it, and a run of it is one span that nothing
                                               matches: span scores are those of the CoNLL rules only where
                                               names are given */
    size_t unknown_count;                   /* multi tasks: how many labels the data has beside the model's;
                                               each is a class with an F1 of 0 in macro F1 */
    const unsigned *strange;                /* multi tasks: [items] how many of these an item has: gold that
                                               is never predicted. NULL: none */
} mtl_target;
typedef struct mtl_state mtl_state;         /* hidden states carried from one chunk of long sequences to the
                                               next */
/* A ragged batch, or a whole data set. Nothing is copied or kept beyond the call that takes it. */
typedef struct mtl_batch {
    size_t sequences;                       /* B */
    const int *lengths;                     /* [B] steps of each sequence, at least 1 */
    const mtl_input *inputs;                /* one per input of the model that does not read another one's */
    const mtl_target *targets;              /* one per task of the model (of origin tasks, which stand last,
                                               none is read); NULL: none */
    mtl_state *state;                       /* NULL, or states of these sequences: read at the start, written
                                               at the end of a forward pass, by cells that read forward (so a
                                               step that fails later has moved them, and so does
                                               mtl_train_gradients) */
    const char *name;                       /* of a data set, for messages; may be NULL */
    int set;                                /* number of the data set that it comes from, the label of an
                                               origin task; mtl_fit gives its data sets theirs */
} mtl_batch;

/* ---- the model ----------------------------------------------------------------------------------------- */

typedef struct mtl_model mtl_model;
/* Exact bytes that mtl_model_init needs. 0 on error (words and labels that stand twice are found by init
   alone). Borrows a few kilobytes from malloc while it runs. */
MTL_DEF size_t mtl_model_size(const mtl_model_desc *desc, mtl_error *err);
/* A model in the caller's buffer (aligned to 64), which must outlive it; nothing else is allocated. Descs,
   names, words and labels are copied. Errors: FIELD with the field's path ("tasks[1].classes"), BUFFER with
   the bytes needed. */
MTL_DEF mtl_model *mtl_model_init(void *buffer, size_t bytes, const mtl_model_desc *desc, mtl_error *err);
/* The same in malloc's memory, given back by mtl_model_destroy. */
MTL_DEF mtl_model *mtl_model_create(const mtl_model_desc *desc, mtl_error *err);
MTL_DEF void mtl_model_destroy(mtl_model *model);
/* The model's own copy of its desc, with defaults put in for zeros. */
MTL_DEF const mtl_model_desc *mtl_model_describe(const mtl_model *model);
MTL_DEF mtl_parameters *mtl_model_parameters(mtl_model *model);
/* The tensor of that name, or NULL. Means and scales are buffers.NAME.mean and buffers.NAME.scale. */
MTL_DEF mtl_tensor *mtl_model_tensor(mtl_model *model, const char *name);
/* Index of a task or input by name, or -1. */
MTL_DEF int mtl_model_task(const mtl_model *model, const char *name);
MTL_DEF int mtl_model_input(const mtl_model *model, const char *name);
/* Name of a class, or NULL if the model stores none; and the class of a name, or -1. */
MTL_DEF const char *mtl_model_label(const mtl_model *model, int task, int label);
MTL_DEF int mtl_model_find_label(const mtl_model *model, int task, const char *name);
/* Id of a word (length bytes) after the input's normalisation; 0 (the unknown word) if it is not known. */
MTL_DEF int mtl_model_word(const mtl_model *model, int input, const char *word, size_t length);
/* Features of an input are read as (x - mean) / scale; scale 0 makes a column 0. Arrays of [features].
   A float has 24 bits: it counts seconds since 1970 in steps of 128. Where numbers lie far from 0 beside
   their spread, take the mean off in double, give the differences as rows and set a mean of 0; take it off a
   task's values the same way, and add it to its answers. `mtl train` does so with every column; its files
   hold the means as floats for plain rows, and with all digits in the notes feature_means and target_means (a
   number for each feature, for each real task, between commas): a program that uses those sets means of 0 and
   keeps the scales that mtl_model_feature_scale and mtl_model_target_scale tell. */
MTL_DEF mtl_status mtl_model_set_feature_scale(mtl_model *model, int input, const mtl_real *mean,
                                               const mtl_real *scale, mtl_error *err);
/* A real task learns (target - mean) / scale; predictions and scores are in the original units. Arrays of
   [width]. */
MTL_DEF mtl_status mtl_model_set_target_scale(mtl_model *model, int task, const mtl_real *mean,
                                              const mtl_real *scale, mtl_error *err);
/* What was set, or came with the file: the model's own arrays [features] or [width], as long as it lives.
   Returns 1, or 0 when there is none. */
MTL_DEF int mtl_model_feature_scale(const mtl_model *model, int input, const mtl_real **mean,
                                    const mtl_real **scale);
MTL_DEF int mtl_model_target_scale(const mtl_model *model, int task, const mtl_real **mean,
                                   const mtl_real **scale);
/* After changing tensor values by hand: packs them for prediction. */
MTL_DEF mtl_status mtl_model_prepare(mtl_model *model, mtl_error *err);
/* Copies every tensor that both models have under one name and shape, means and scales too where they are set
   in `from`; *copied (NULL allowed) counts them. This is how tasks are added, removed or replaced: create a
   model from the new desc, then transfer. */
MTL_DEF mtl_status mtl_model_transfer(mtl_model *to, const mtl_model *from, size_t *copied, mtl_error *err);
/* Freezes (1) or frees (0) every tensor whose name begins with prefix; returns how many. */
MTL_DEF size_t mtl_model_freeze(mtl_model *model, const char *prefix, int frozen);
/* Learning rate of every tensor whose name begins with prefix, as a multiple of the trainer's; returns how
   many. */
MTL_DEF size_t mtl_model_rate(mtl_model *model, const char *prefix, float rate);
/* States for `sequences` sequences, all zero; NULL when memory is out. For streams and truncated
   backpropagation. Of a column with two directions the forward cells alone carry theirs. The backward ones
   begin at a chunk's end, where the sequence goes on with what nobody has read yet: so they begin with zeros,
   see no further than the chunk, and are right in the last chunk of a sequence (the last steps of the others
   know less than in the whole sequence). The state that they had at the end of the chunk before belongs to
   its first step. */
MTL_DEF mtl_state *mtl_state_create(const mtl_model *model, size_t sequences, mtl_error *err);
MTL_DEF void mtl_state_reset(mtl_state *state);
MTL_DEF void mtl_state_destroy(mtl_state *state);

/* ---- text ---------------------------------------------------------------------------------------------- */

/* Length of the longest valid UTF-8 prefix of text (== length when all is valid; overlong forms and
   surrogates are invalid). */
MTL_DEF size_t mtl_text_valid(const char *text, size_t length);
/* Normalises one word as models store it: lower case (ASCII, Latin, Greek, Cyrillic letters) and every digit
   to 0, each when asked. Writes at most size-1 bytes and a 0; returns the full length (never more than 2 *
   length). */
MTL_DEF size_t mtl_text_normalise(const char *word, size_t length, int lowercase, int digits, char *out,
                                  size_t size);
/* A decimal number of exactly `length` bytes ("-1.5e-3"; no inf, nan, hex, locale). 1 on success, 0 if it is
   not one; values too large for a double are refused. */
MTL_DEF int mtl_text_number(const char *text, size_t length, double *out);
/* The shortest text that reads back as the same double (or float, when value is one), in any locale. out[32].
   Returns its length. */
MTL_DEF size_t mtl_text_from_number(double value, char *out);

/* ---- files --------------------------------------------------------------------------------------------- */

/* Where bytes go: return 0 when all were taken. */
typedef struct mtl_writer { void *user; int (*write)(void *user, const void *bytes, size_t count);
} mtl_writer;
/* Where bytes come from: read up to `count` into bytes, return how many (less only at the end). */
typedef struct mtl_reader { void *user; size_t (*read)(void *user, void *bytes, size_t count); } mtl_reader;

typedef struct mtl_trainer mtl_trainer;
/* A model file is a valid safetensors file; the configuration is JSON text in its metadata. trainer NULL:
   without optimiser state. */
/* atomic: the old file or the new one */
MTL_DEF mtl_status mtl_model_save(const mtl_model *model, const char *path, mtl_error *err);
MTL_DEF mtl_status mtl_model_write(const mtl_model *model, const mtl_trainer *trainer,
                                   const mtl_writer *writer, mtl_error *err);
MTL_DEF mtl_model *mtl_model_load(const char *path, mtl_error *err);
MTL_DEF mtl_model *mtl_model_read(const mtl_reader *reader, mtl_error *err);
/* From memory, e.g. a mapped file or an array; bytes are copied and need not stay. */
MTL_DEF mtl_model *mtl_model_load_memory(const void *bytes, size_t count, mtl_error *err);
/* The same for files that hold kinds of the program's own: their rows. A kind that is in the file and not
   handed over is an error that names it (UNSUPPORTED). how NULL: none. */
typedef struct mtl_kind mtl_kind;
typedef struct mtl_load_desc {
    const mtl_kind *const *kinds;           /* [kind_count] each the first member of a row */
    size_t kind_count;
} mtl_load_desc;
MTL_DEF mtl_model *mtl_model_load_with(const char *path, const mtl_load_desc *how, mtl_error *err);
MTL_DEF mtl_model *mtl_model_read_with(const mtl_reader *reader, const mtl_load_desc *how, mtl_error *err);
MTL_DEF mtl_model *mtl_model_load_memory_with(const void *bytes, size_t count, const mtl_load_desc *how,
                                              mtl_error *err);
/* Free text kept in the model file under a name (e.g. how it was trained); value NULL: look up only. Returns
   the text or NULL. */
MTL_DEF const char *mtl_model_note(mtl_model *model, const char *name, const char *value, mtl_error *err);

/* A safetensors file in memory: the tensors' names, shapes and where their bytes are. */
typedef struct mtl_safetensor {
    const char *name;
    int type;                               /* MTL_TYPE_* */
    int dims;
    size_t shape[8];
    size_t count;                           /* elements */
    const void *data;                       /* little-endian, perhaps unaligned */
} mtl_safetensor;
enum { MTL_TYPE_F32, MTL_TYPE_F64, MTL_TYPE_F16, MTL_TYPE_BF16, MTL_TYPE_I64, MTL_TYPE_I32, MTL_TYPE_I16,
    MTL_TYPE_I8, MTL_TYPE_U8,
       MTL_TYPE_BOOL, MTL_TYPE_U16, MTL_TYPE_U32, MTL_TYPE_U64, MTL_TYPE_F8_E4M3, MTL_TYPE_F8_E5M2,
           MTL_TYPE_C64,
       MTL_TYPE_OTHER,                      /* a type that is not known here: its bytes are not checked
                                               against its shape */
       MTL_TYPE_COUNT };
typedef struct mtl_safetensors {
    size_t count;
    mtl_safetensor *tensors;
    size_t metadata_count;
    const char **metadata;                  /* key, value, key, value ...: [2 * metadata_count] */
    size_t mapped_bytes;                    /* > 0: the file is mapped into memory */
    void *file;                             /* the file's bytes when they are owned */
    mtl_arena arena;
} mtl_safetensors;
/* Opens a file by mapping it; bytes stay valid until closed. */
MTL_DEF mtl_status mtl_safetensors_open(mtl_safetensors *file, const char *path, mtl_error *err);
/* The same over bytes in memory, which must outlive it. Trusts nothing: every length, offset and shape is
   checked. */
MTL_DEF mtl_status mtl_safetensors_open_memory(mtl_safetensors *file, const void *bytes, size_t count,
                                               mtl_error *err);
MTL_DEF void mtl_safetensors_close(mtl_safetensors *file);
MTL_DEF const mtl_safetensor *mtl_safetensors_find(const mtl_safetensors *file, const char *name);
MTL_DEF const char *mtl_safetensors_metadata(const mtl_safetensors *file, const char *key);
/* Converts a tensor's values to mtl_real. out: [count]. Error: TENSOR if its type is not a float type. */
MTL_DEF mtl_status mtl_safetensor_values(const mtl_safetensor *tensor, mtl_real *out, mtl_error *err);

/* Takes weights from a PyTorch state_dict saved as safetensors. Each model tensor whose name fits `to` is
   read from the file's tensor whose name is `from` with the same rest: a pattern's '*' stands for the rest, a
   pattern without one is a prefix. So { "model.lstm.", "encoder." } and { "net.*.data", "encoder.*" }. The
   first mapping that fits counts; model tensors that fit none stay, and so do buffers that the file does not
   have, unless `to` begins with "buffers.". Errors, after which nothing is changed:
   TENSOR, naming a mapping that fits no tensor of the model (or only those that earlier ones take); every
   model tensor that found no partner, or a partner of another shape or type; the file's tensors that fit a
   `from` and that nothing took, such as a second layer's for a model of one. */
typedef struct mtl_import { const char *from, *to; } mtl_import;
MTL_DEF mtl_status mtl_model_import(mtl_model *model, const mtl_safetensors *file, const mtl_import *mappings,
                                    size_t count, mtl_error *err);
typedef struct mtl_import_result {
    size_t taken;                           /* tensors of the model that were read */
    size_t left;                            /* tensors of the file that fit a `from` and that nothing took */
    char left_names[360];                   /* their names: "a, b, and 3 more", or "" */
} mtl_import_result;
/* The same, but what is left of the file is no error: it is counted and named in *result. */
MTL_DEF mtl_status mtl_model_import_part(mtl_model *model, const mtl_safetensors *file,
                                         const mtl_import *mappings, size_t count, mtl_import_result *result,
                                             mtl_error *err);
/* Writes the model's parameters and set buffers alone, names mapped the other way (`to` replaced by `from`).
   count 0: all, under their own names. */
MTL_DEF mtl_status mtl_model_export(const mtl_model *model, const char *path, const mtl_import *mappings,
                                    size_t count, mtl_error *err);

/* ---- prediction ---------------------------------------------------------------------------------------- */

typedef struct mtl_predictor mtl_predictor;
/* Exact bytes for a predictor with the desc's limits (max_rows must be given). 0 on error. */
MTL_DEF size_t mtl_predictor_size(const mtl_model *model, const mtl_predictor_desc *desc, mtl_error *err);
MTL_DEF mtl_predictor *mtl_predictor_init(void *buffer, size_t bytes, const mtl_model *model,
                                          const mtl_predictor_desc *desc, mtl_error *err);
/* Scratch for predictions over a model that many predictors may share; one predictor per thread. desc NULL:
   defaults. */
MTL_DEF mtl_predictor *mtl_predictor_create(const mtl_model *model, const mtl_predictor_desc *desc,
                                            mtl_error *err);
MTL_DEF void mtl_predictor_destroy(mtl_predictor *predictor);

/* What one task says about a batch, in the caller's order. Memory of the predictor, valid until its next
   call. */
typedef struct mtl_prediction {
    size_t items, width;                    /* B or N; classes or numbers of each */
    const int *labels;                      /* class tasks: [items] the likeliest class */
    const mtl_real *probabilities;          /* class and multi tasks: [items][classes] */
    const mtl_real *values;                 /* real tasks: [items][width], original units */
    const unsigned char *chosen;            /* multi tasks: [items][classes] 1 where a probability is 0.5 at
                                               least, else 0 */
} mtl_prediction;
/* Predicts every task for a batch. out: [task_count]. Errors: RANGE (sequence and position), NUMBER,
   LIMIT. */
MTL_DEF mtl_status mtl_predict(mtl_predictor *predictor, const mtl_batch *batch, mtl_prediction *out,
                               mtl_error *err);
/* The same for one UTF-8 sentence, split at spaces, through the stored vocabulary of the model's first token
   input (further token inputs read the same words). *tokens (NULL allowed) tells how many words there were.
   Error: TEXT for invalid UTF-8 or no word. */
MTL_DEF mtl_status mtl_predict_text(mtl_predictor *predictor, const char *text, mtl_prediction *out,
                                    size_t *tokens, mtl_error *err);
/* Called for every named activation of later predictions; NULL: off. */
MTL_DEF void mtl_predictor_observe(mtl_predictor *predictor, mtl_observer observer, void *user);

/* ---- metrics ------------------------------------------------------------------------------------------- */

/* A chunk of a B-/I- tagged sequence: [begin, end) and its type, which points into the labels. */
typedef struct mtl_span { size_t begin, end; const char *type; } mtl_span;
/* Spans of one tagged sequence by the rules of the CoNLL evaluation (B-X, I-X, O; an I-X that continues
   nothing opens a span). tags: [steps] names. Writes up to `capacity` spans, returns how many there are. */
MTL_DEF size_t mtl_spans(const char *const *tags, size_t steps, mtl_span *spans, size_t capacity);
/* 1 when the names are of a span scheme: each is O, B-something or I-something, and one B- at least. */
MTL_DEF int mtl_labels_are_spans(const char *const *labels, size_t count);

typedef struct mtl_task_score {
    size_t items;                           /* labelled items seen; 0: this task had none, and all else is
                                               0 */
    int kind, level, spans;
    double loss;                            /* mean loss */
    double accuracy;                        /* class: share of items right (per token at step level) */
    double span_precision, span_recall, span_f1;
    double rmse, mae, r2;                   /* real, in original units; r2 against the mean of the items */
    double score;                           /* what counts for early stopping: accuracy, span F1, R2 cut at 0,
                                               or micro F1 */
    double own[4];                          /* of a kind of the program's own */
    double micro_f1, macro_f1;              /* multi: of all labels pooled; mean over classes, 0 for one that
                                               nobody has nor was given (as scikit-learn, zero_division=0) */
} mtl_task_score;
typedef struct mtl_scores {
    size_t task_count;
    mtl_task_score *tasks;                  /* [task_count] the caller's */
    size_t sequences, tokens;
    size_t joint_items;                     /* sequences with a class label */
    double joint_accuracy;                  /* share of them with every labelled class and tag right */
    double score;                           /* mean over tasks with items */
} mtl_scores;
/* Scores of a model on labelled data, in batches of similar length, by the predictor's limits. data: `count`
   data sets, scored as one; targets given as distributions are not scored. scores->tasks must hold the
   model's task_count entries. confusion (NULL allowed): for each task NULL or [classes +
   unknown_count][classes] counts, rows gold and columns predicted, which are added to; the rows behind the
   classes are those of the targets' `unknown` names (of the data set with most of them). Labels without a
   name have no row. */
MTL_DEF mtl_status mtl_evaluate(mtl_predictor *predictor, const mtl_batch *data, size_t count,
                                mtl_scores *scores, size_t *const *confusion, mtl_error *err);

/* ---- kinds: rows of tables --------------------------------------------------------------------------------

   Inputs, columns, mixes, tasks and penalties come in kinds. A kind is one row: a name, fields, functions.
   The header's own rows are chosen by a desc's `kind`; a program adds its own by pointing a desc's `own` to a
   row of its own, constant and there as long as the model. The functions are called with what the model keeps
   of the desc (never NULL):
       check      (inputs, tasks) puts in defaults, finds what is wrong with a desc; `what` begins messages.
                  NULL: nothing to check
       build      adds tensors under the owner's name, allocates from set->arena (real memory in a dry run
                  too: mtl_parameters_make), sets what its comment says
       forward    makes activations and records what backward needs, as any layer does
   A row of the header's own stands in two rooms: here its constant, the last of its enum, its name, the last
   of MTL_..._NAMES, and its fields; in >>nodes (tasks: >>tasks) the row, the last of mtl__..._kinds, with its
   functions above it. New mathematics is a layer in >>layers or >>losses. A cell is a row of MTL__CELL_KINDS
   in >>kernels, where its mathematics stands. */
struct mtl_kind {
    int desc;                               /* MTL_DESC_*: of which table the row is */
    const char *name;                       /* as files and the command say it; no two of a table alike */
    const mtl_field *fields;                /* the members of `options`, numbers alone: they are checked, get
                                               their defaults and stand in files. NULL: none */
    size_t field_count;
    size_t options;                         /* bytes of what the desc's `options` must point to; 0: nothing */
};

/* Columns [begin, begin + width) of an activation come from cells that read forward, or from the end. */
typedef struct mtl_segment { size_t begin, width; int reverse; } mtl_segment;

/* Numbers are learnt as (x - mean) / scale; a scale of 0 (a constant column) makes them 0. */
typedef struct mtl_scaling {
    size_t width;
    int set;                                /* 0: they stay as they are */
    mtl_real *mean, *scale;                 /* [width] the values of buffers.OWNER.mean and .scale */
} mtl_scaling;
/* Number j, as it is learnt: (x - mean) / scale. */
MTL_DEF mtl_real mtl_scaled(const mtl_scaling *scaling, size_t j, mtl_real x);
/* A scaling that is not set yet, with its buffers, which begin as 0 and 1; width 0: without. In the set's
   arena; NULL when memory is out. */
MTL_DEF mtl_scaling *mtl_scaling_add(mtl_parameters *set, const char *owner, size_t width, mtl_error *err);

/* A mix of several activations of the same rows into one. */
typedef struct mtl_mix {
    size_t count;                           /* sources, 1 at least */
    const size_t *widths;                   /* [count] theirs */
    const char *owner;                      /* the column or task that reads it: what its tensors' names begin
                                               with */
    const mtl_mix_desc *desc;
    size_t width;                           /* of the result; build sets it */
    void *data;                             /* what build has made */
    size_t by_width;                        /* of what the desc's `by` names, side by side; 0: by is NULL */
    int level;                              /* MTL_LEVEL_*: what all have a row for */
} mtl_mix;
struct mtl_mix_kind {
    mtl_kind kind;
    int appends;                            /* 1: the result is the sources side by side; 0: it has the
                                               columns of the first one, in the directions in which these were
                                               read, or, where build gives it another width, columns that are
                                               read forward */
    mtl_status (*build)(mtl_mix *mix, mtl_parameters *set, const char *what, mtl_error *err);
    /* by: of as many rows as the sources; NULL: the desc names none */
    mtl_activation *(*forward)(mtl_run *run, const mtl_mix *mix, mtl_activation *const *sources,
                               mtl_activation *by);
};

/* An input: a token's row of an embedding, or a row of numbers. */
typedef struct mtl_input_part {
    const mtl_input_desc *desc;
    size_t width;                           /* of the activation; build sets it */
    mtl_scaling *scaling;                   /* build: of numbers that are standardised (mtl_scaling_add);
                                               NULL: of none */
    void *data;
} mtl_input_part;
struct mtl_input_kind {
    mtl_kind kind;
    int reads_rows;                         /* 1: a batch gives rows of `features` numbers; 0: ids */
    mtl_status (*check)(mtl_input_desc *desc, const char *what, mtl_error *err);
    mtl_status (*build)(mtl_input_part *part, mtl_parameters *set, mtl_error *err);
    /* 0 when one step's id or row (number `row` in the caller's order) can be read; else a failed status.
       NULL: any */
    mtl_status (*verify)(const mtl_input_part *part, const mtl_input *input, size_t row, size_t sequence,
                         int step, mtl_error *err);
    mtl_activation *(*forward)(mtl_run *run, const mtl_input_part *part, const mtl_input *input);
};

/* A column: rows of steps in, rows of steps out. Its forward applies the desc's dropout too. */
typedef struct mtl_column_part {
    const mtl_column_desc *desc;
    size_t inputs;                          /* width of the rows that it reads */
    size_t width, directions;               /* build: of the result; 2: its second half reads from the end */
    size_t states;                          /* build: states that can be carried from batch to batch; 0: none,
                                               each batch begins anew */
    const size_t *state_units;              /* [states] */
    void *data;
} mtl_column_part;
/* A column on its way through a batch, perhaps beside others. */
typedef struct mtl_column_pass {
    const mtl_column_part *part;
    mtl_activation *x, *y;                  /* rows that it reads; forward: its result */
    const mtl_cell_state *initial;          /* [states], NULL: zeros */
    mtl_cell_state *final;                  /* [states], NULL: not wanted */
    struct mtl_record *after;               /* of the tape, the last record before the column */
    size_t component;                       /* run->component of the column */
    unsigned long long stream;              /* of its next dropout */
} mtl_column_pass;
struct mtl_column_kind {
    mtl_kind kind;
    mtl_status (*build)(mtl_column_part *part, mtl_parameters *set, mtl_error *err);
    /* initial, final: [states], NULL: zeros, not wanted */
    mtl_activation *(*forward)(mtl_run *run, const mtl_column_part *part, mtl_activation *x,
                               const mtl_cell_state *initial, mtl_cell_state *final);
    /* instead of forward, NULL: of several columns that do not read one another, their jobs in common lists.
       Sets y; must give the same bits as one after the other */
    void (*forward_beside)(mtl_run *run, mtl_column_pass *columns, size_t count);
};

/* A penalty: of tensors, or of rows that parts of the model have made. */
typedef struct mtl_penalty_part {
    const mtl_penalty_desc *desc;
    size_t count;                           /* of tensors: how many a has; of rows: 0 */
    const mtl_tensor **a, **b;              /* [count] those that correspond; b: build may put others there */
    void *data;
} mtl_penalty_part;
struct mtl_penalty_kind {
    mtl_kind kind;
    int of_rows;                            /* 1: of rows; 0: of tensors */
    int parts;                              /* 2: the desc must name b; 1: it must not */
    /* NULL: nothing to build; when a trainer is made, NULL: nothing to do */
    mtl_status (*build)(mtl_penalty_part *part, mtl_parameters *set, mtl_error *err);
    void (*begin)(const mtl_penalty_part *part);
    /* 1 x 1, not weighted; a, b: rows, or NULL */
    mtl_activation *(*forward)(mtl_run *run, const mtl_penalty_part *part, mtl_activation *a,
                               mtl_activation *b);
};

/* A task's head and how it is trained, answered and scored. Outputs, loss and answer are apart: outputs are
   the head's last dense layer, [items][outputs]. */
typedef struct mtl_task_part {
    const mtl_task_desc *desc;
    size_t outputs;                         /* numbers in a row of the head's output */
    size_t width;                           /* numbers in an item's target and in what `distribution` makes;
                                               of labels: the classes */
    const mtl_scaling *scaling;             /* of targets that are learnt standardised */
    int spans;                              /* labels are of a span scheme */
    const char *probabilities;              /* the name of what `distribution` makes */
    void *data;                             /* what build has made beside the head */
} mtl_task_part;
/* What a loss is taken over: outputs [rows][outputs] of labelled items only. */
typedef struct mtl_loss_items {
    size_t rows;
    const int *items;                       /* [rows] the caller's item of each row */
    const mtl_target *target;               /* NULL in a dry run */
    double divisor;                         /* of the whole update: see mtl_train_step */
} mtl_loss_items;
/* What is counted: items [first, first + items) of one sequence, answered already. */
typedef struct mtl_count {
    void *counts;                           /* the kind's own, zeroed at first */
    size_t first, items;
    const mtl_target *target;
    const mtl_prediction *answer;
    size_t *confusion;                      /* NULL, or as in mtl_evaluate */
} mtl_count;
enum { MTL_TARGET_LABELS, MTL_TARGET_NUMBERS, MTL_TARGET_SET,       /* a label; numbers; a set of labels as 0s
                                                                       and 1s; */
       MTL_TARGET_ORIGIN };                 /* none: mtl_batch.set is the label of all its sequences */
enum { MTL_JUDGED_NOT, MTL_JUDGED_RIGHT, MTL_JUDGED_WRONG };
/* A figure that a kind's score fills in, for reports: what it is called, by MTL_LEVEL_*, and the double's
   place. */
typedef struct mtl_figure {
    const char *title[2];                   /* for readers; NULL: not reported at this level */
    const char *name[2];                    /* for programs; NULL: for readers alone */
    size_t offset;                          /* in mtl_task_score */
    int share;                              /* 1: it lies between 0 and 1; 0: it has a unit */
    int spans;                              /* 1: only of a span scheme */
} mtl_figure;
struct mtl_task_kind {
    mtl_kind kind;
    const char *file_column[2];             /* by MTL_LEVEL_*: what a file's column of it is called; NULL: the
                                               command does not offer it at this level */
    int target;                             /* MTL_TARGET_*: what an item's target is */
    int scaled;                             /* 1: numbers are learnt standardised */
    const char *output_name;                /* of the activation TASK.name */
    mtl_status (*check)(mtl_task_desc *desc, const char *what, mtl_error *err);
    /* sets outputs and width */
    mtl_status (*build)(mtl_task_part *part, mtl_parameters *set, mtl_error *err);
    mtl_activation *(*loss)(mtl_run *run, const mtl_task_part *part, const mtl_loss_items *items,
                            mtl_activation *x);
    /* NULL: none */
    mtl_activation *(*distribution)(mtl_run *run, const mtl_task_part *part, mtl_activation *x);
    /* x: outputs, p: of `distribution` or NULL, items: which of the caller's each row is; what *out points to
       comes from the run. items and width of *out are set. NULL: the outputs are the values */
    void (*answer)(mtl_run *run, const mtl_task_part *part, const mtl_activation *x, const mtl_activation *p,
                   const int *items, mtl_prediction *out);
    size_t counts;                          /* bytes of mtl_count.counts, and for each of the part's
                                               outputs */
    size_t counts_each;
    int (*count)(const mtl_task_part *part, const mtl_count *count);    /* MTL_JUDGED_*, for joint accuracy */
    void (*score)(const mtl_task_part *part, const void *counts, mtl_task_score *score);
    const mtl_figure *figures;              /* ends with NULL titles at both levels; NULL: none */
};
/* 1 for NaN, which is a missing number, by its bits: -ffast-math takes comparisons with NaN for false. */
MTL_DEF int mtl_is_missing(mtl_real x);
/* Rows of x in the caller's order and the task's own units, [items][x's width]: what an answer points to. */
MTL_DEF mtl_real *mtl_answer_values(mtl_run *run, const mtl_task_part *part, const mtl_activation *x,
                                    const int *items);
/* Of number j of an item's outputs, x, and its target, y, both as they are learnt: the loss, and dl/dx. */
typedef mtl_real (*mtl_output_loss)(const mtl_task_part *part, size_t j, mtl_real x, mtl_real y,
                                    mtl_real *slope);
/* A kind's loss that is a sum over outputs: sum_n sum_j l(x[n][j], y[n][j % width]) / divisor, with its
   backward. Targets are values. */
MTL_DEF mtl_activation *mtl_loss_of_outputs(mtl_run *run, const mtl_task_part *part,
                                            const mtl_loss_items *items, mtl_activation *x,
                                            mtl_output_loss loss);
/* The row of a task's kind: the header's or the program's own. Static memory; NULL for no desc. */
MTL_DEF const mtl_task_kind *mtl_task_kind_of(const mtl_task_desc *task);
/* The header's rows of a table (MTL_DESC_INPUT, _COLUMN, _MIX, _TASK, _PENALTY): number i is the kind whose
   constant
   has that place in its list of names; NULL when there is none. */
MTL_DEF const mtl_kind *mtl_kind_at(int desc, size_t i);

/* ---- sharing: presets ------------------------------------------------------------------------------------

   How tasks share what is learnt is a matter of columns, mixes and taps. A preset makes them out of a plain
   desc: inputs, `encoder`, tasks without taps. Nothing else knows of presets: a model that came from one is a
   model like any other. */
enum { MTL_SHARE_DEFAULT, MTL_SHARE_FULL, MTL_SHARE_NONE, MTL_SHARE_PARTIAL, MTL_SHARE_GATED,
    MTL_SHARE_HIERARCHICAL,
       MTL_SHARE_CROSS_STITCH, MTL_SHARE_LEVELS, MTL_SHARE_MMOE, MTL_SHARE_CGC, MTL_SHARE_PLE, MTL_SHARE_SOFT,
       MTL_SHARE_ADVERSARIAL, MTL_SHARE_STACK };
#define MTL_SHARE_NAMES(X) \
    X(MTL_SHARE_FULL, \
      "full") X(MTL_SHARE_NONE, "none") X(MTL_SHARE_PARTIAL, "partial") X(MTL_SHARE_GATED, "gated") \
    X(MTL_SHARE_HIERARCHICAL, "hierarchical") X(MTL_SHARE_CROSS_STITCH, "cross-stitch") \
    X(MTL_SHARE_LEVELS, "levels") X(MTL_SHARE_MMOE, "mmoe") X(MTL_SHARE_CGC, "cgc") X(MTL_SHARE_PLE, "ple") \
    X(MTL_SHARE_SOFT, "soft") X(MTL_SHARE_ADVERSARIAL, "adversarial") X(MTL_SHARE_STACK, "stack")
#define MTL_SHARE_FIELDS(X) \
    X(MTL_NAME,   order,        0, 0, 0, MTL_NONE, \
      "hierarchical: tasks by level, the lowest first, as in pos+chunks/intent; NULL: those of steps, \
          then others") \
    X(MTL_CHOICE, kind, MTL_SHARE_FULL, 1, 13, MTL_SHARE, "which preset") \
    X(MTL_INT,    hidden,       0, 0, 1000000, MTL_NONE, "units of shared columns; 0: the encoder's") \
    X(MTL_INT,    own_hidden,   0, 0, 1000000, MTL_NONE, "units of a task's own columns; 0: the encoder's") \
    X(MTL_INT,    experts,      4, 1, 64, MTL_NONE, "mmoe, cgc, ple: experts that all tasks share") \
    X(MTL_INT,    own_experts,  1, 1, 64, MTL_NONE, "cgc, ple: experts of each task's own") \
    X(MTL_FLAG,   per_sequence, 0, 0, 1, MTL_NONE, \
      "mmoe, cgc, ple: one gate a sequence instead of one a step") \
    X(MTL_FLAG,   above,        0, 0, 1, MTL_NONE, \
      "partial: a task's own column stands on the shared one, not beside it") \
    X(MTL_FLAG,   distributions, 0, 0, 1, MTL_NONE, "hierarchical: what lower tasks predict goes up, too") \
    X(MTL_FLAG,   stopped,      0, 0, 1, MTL_NONE, \
      "hierarchical, stack: no gradient goes back through what they predict") \
    X(MTL_FLOAT,  tie,       1e-3, 0, 1e6, MTL_NONE, "soft: weight of the distances between tasks' columns") \
    X(MTL_FLOAT,  orthogonal, 0.01, 0, 1e6, MTL_NONE, \
      "adversarial: weight that keeps shared and own columns apart") \
    X(MTL_FLOAT,  adversary, 0.05, 0, 1e6, MTL_NONE, "adversarial: weight of the task `origin`") \
    X(MTL_INT,    sets,         0, 0, 1000000, MTL_NONE, \
      "adversarial: data sets that are told apart; the command counts them")
typedef struct mtl_share_desc { MTL_SHARE_FIELDS(MTL__MEMBER) } mtl_share_desc;
/* The desc of a model that shares in this way, into *out; what it points to lies in `arena` or in `plain`,
   both of which must stay until a model is made of it. how NULL: full sharing.
       full          one column for all tasks                                                      Caruana
                     1997
       none          a column and an embedding for each task, in one model: the control
       partial       a shared column beside one of each task's own, side by side         Ruder 2017, section 4
       gated         h = g s + (1 - g) p of the shared and its own, g = sigmoid(W [s; p] + b), for each step
       hierarchical  a column a level over the words and the level below, each task at its level
                                                            Soegaard & Goldberg 2016; Hashimoto et al. 2017
       cross-stitch  a column a task and layer; each layer reads a learnt combination of all tasks'   Misra et
       al. 2016
       levels        one stack; each task reads a learnt mixture of its layers             Peters et al. 2018
       mmoe          columns are experts, each task has a softmax gate over them               Ma et al. 2018
       cgc           the same, and each task has experts of its own                          Tang et al. 2020
       ple           two levels of cgc                                                       Tang et al. 2020
       soft          a column a task, each pair of which a penalty keeps alike              Duong et al. 2015
       adversarial   partial; a further task, `origin`, tells from the shared column which data set a batch
                     comes from, by a reversed gradient, so that the column learns to tell it less; a penalty
                     keeps shared and own columns apart                                       Liu et al. 2017
       stack         class tasks of sequences are predicted at each step, and tasks of steps read these
                     distributions beside the encoder                                         Qin et al. 2019
   Errors: FIELD for a plain desc with columns or taps, with one task only (full and none are no sharing
   then), an order that leaves out a task; adversarial: fewer than two data sets; stack: no class task of
   sequences, or no task of steps. */
MTL_DEF mtl_status mtl_share(const mtl_share_desc *how, const mtl_model_desc *plain, mtl_model_desc *out,
                             mtl_arena *arena, mtl_error *err);

/* ---- training ------------------------------------------------------------------------------------------ */

/* Exact bytes for a trainer with the desc's limits (max_rows must be given). 0 on error. */
MTL_DEF size_t mtl_trainer_size(const mtl_model *model, const mtl_trainer_desc *desc, mtl_error *err);
MTL_DEF mtl_trainer *mtl_trainer_init(void *buffer, size_t bytes, mtl_model *model,
                                      const mtl_trainer_desc *desc, mtl_error *err);
/* Gradients, optimiser state and scratch for training `model`, which must outlive it. desc NULL: defaults. */
MTL_DEF mtl_trainer *mtl_trainer_create(mtl_model *model, const mtl_trainer_desc *desc, mtl_error *err);
MTL_DEF void mtl_trainer_destroy(mtl_trainer *trainer);
/* lambda_k from now on, whatever weight_end says; 0 turns a task off. What trainer.balance says multiplies
   it. */
MTL_DEF mtl_status mtl_trainer_set_weight(mtl_trainer *trainer, int task, float weight, mtl_error *err);
/* The base learning rate from now on (the schedule multiplies it). */
MTL_DEF void mtl_trainer_set_lr(mtl_trainer *trainer, float lr);
MTL_DEF void mtl_trainer_observe(mtl_trainer *trainer, mtl_observer observer, void *user);
/* The run of the last mtl_train_gradients or mtl_train_step, for looking inside and for layers of one's own;
   tape and packing are NULL before the first. Its tape holds the activations of the last micro-batch and
   their gradients until the next of these calls (an activation's ids are the batch's own array). After
   mtl_train_step they are those of before the update, so play the tape again (mtl_tape_backward) after
   mtl_train_gradients alone. What mtl_fit did can be looked at from its callback after each update; at the
   end of an epoch, and after mtl_fit, the tape is empty and the packing NULL, as the batches are gone. */
MTL_DEF mtl_run *mtl_trainer_run(mtl_trainer *trainer);

/* How losses weigh against one another: trainer.balance. The joint loss is sum_k w_k L_k, w_k = lambda_k c_k.
   lambda_k is the task's `weight` (on its way to weight_end, or what mtl_trainer_set_weight says), and c_k is
   made anew for each update. n: how many tasks have labels in it; with fewer than two c_k is 1, and nothing
   is learnt. Origin tasks and penalties have no c.
       static       1
       initial      1 / L_k(0), the loss of the first update (which still has 1)
       items        tasks of steps: labelled steps by sequences that have some, so that L_k counts as the sum
                    over a sequence, in the mean over sequences; else 1
       uncertainty  e^-s, of numbers e^-s / 2; log variances s_k are learnt with s_k / 2 added to the loss
                                                                       Kendall, Gal & Cipolla 2018
       dwa          n softmax(r / balance_temperature): r_k is the mean loss of the last balance_window
                    updates by that of the window before; 1 at first               Liu et al. 2019
       random       n softmax(z), z_k normal numbers                               Lin et al. 2022
       imtl         e^s; s_k are learnt so that all e^s_k L_k come to 1 (IMTL-L)   Liu et al. 2021
       gradnorm     learnt so that the norms of the tasks' gradients, in what they share, go with
                    r^balance_alpha, r_k: how much of L_k(0) is left, by the mean of that; they add up to n
                                                                                   Chen et al. 2018
   mtl_train_step learns; mtl_trainer_save keeps what was learnt, and weights that were set.

   How the gradients of shared parameters become one: trainer.surgery. A parameter is shared in an update when
   the gradients of two tasks reach it at least; all others, origin tasks and penalties add up as ever. G: the
   Gram matrix of the tasks' gradients g_k of L_k in what is shared. Each part of a model that nothing
   connects to others is by itself. Of n tasks:
       none         sum_k w_k g_k
       pcgrad       g_k loses what points against another task's gradient, one after the other in random
                    order                                                          Yu et al. 2020
       gradvac      as pcgrad, but to the mean cosine that the two tasks have had  Wang et al. 2021
       mgda         n times the shortest convex combination; w_k mean nothing      Sener & Koltun 2018
       cagrad       near the sum, and best for the task that it is worst for       Liu et al. 2021
       aligned      the directions of G made equally long, as the shortest (Aligned-MTL) Senushkin et al. 2023
       upgrad       each w_k g_k moved to where no task's gradient points against it
                                                                                   Quinton & Rey 2024
   Surgery and gradnorm play the tape once for each task and keep a set of gradients for each. */
typedef struct mtl_step {
    size_t step;                            /* updates so far, this one included */
    double loss;                            /* sum over tasks of task_weight * task_loss, and penalty_loss */
    double grad_norm;                       /* norm of the whole gradient before clipping */
    double lr;
    size_t tokens;                          /* rows of all micro-batches */
    size_t task_count;
    const double *task_loss;                /* [task_count] mean loss over labelled items; memory of the
                                               trainer */
    const size_t *task_items;               /* [task_count] labelled items */
    double penalty_loss;                    /* sum over penalties of weight * penalty */
    const double *task_weight;              /* [task_count] lambda_k in force: the task's weight, and what
                                               trainer.balance made of it; memory of the trainer */
} mtl_step;
/* One update from `count` micro-batches: L_k is the sum over the labelled items of all of them, divided by
   their number (by the sum of their class weights; vector targets also by width). step may be NULL. Errors:
   RANGE, NUMBER (NaN in inputs or in the loss), LIMIT; on error no weight is changed. */
MTL_DEF mtl_status mtl_train_step(mtl_trainer *trainer, const mtl_batch *batches, size_t count,
                                  mtl_step *step, mtl_error *err);
/* Forward and backward only: gradients are left in mtl_trainer_gradients, weights unchanged. */
MTL_DEF mtl_status mtl_train_gradients(mtl_trainer *trainer, const mtl_batch *batches, size_t count,
                                       mtl_step *step, mtl_error *err);
MTL_DEF mtl_gradients *mtl_trainer_gradients(mtl_trainer *trainer);
/* The same task by task: of[k] ([tasks], made with mtl_gradients_create for mtl_model_parameters(model)) gets
   the gradient of weight_k * L_k, which, penalties apart, add up to what mtl_train_gradients leaves. Tasks
   with the same of[k] are a group, whose gradients are added up; NULL: not wanted. Forward runs once,
   backward once for each group (and for each of those that columns let train different tensors): its heads
   and what tasks share. mtl_trainer_gradients stays as it was, and step->grad_norm is 0. With surgery the
   sum of these is not what mtl_train_gradients leaves. */
MTL_DEF mtl_status mtl_train_task_gradients(mtl_trainer *trainer, const mtl_batch *batches, size_t count,
                                            mtl_gradients *const *of, mtl_step *step, mtl_error *err);
/* MTL_PRECISION_* that its products run in: F32, although the desc asked for BF16, where the processor, the
   chosen instruction set or MTL_REAL has no bfloat16 products. */
MTL_DEF int mtl_trainer_precision(const mtl_trainer *trainer);
/* Exchanges the model's weights with their exponential average, for evaluation or at the end; call again to
   change back. */
MTL_DEF mtl_status mtl_trainer_swap_average(mtl_trainer *trainer, mtl_error *err);
/* Model and optimiser state in one file; and the optimiser state back into a new trainer of the loaded model:
   training goes on bit-exactly. */
MTL_DEF mtl_status mtl_trainer_save(const mtl_trainer *trainer, const char *path, mtl_error *err);
/* Error: TENSOR if the file holds no state, or that of another optimiser or method of weighting losses, or
   moments or an average that this trainer does not keep. */
MTL_DEF mtl_status mtl_trainer_resume(mtl_trainer *trainer, const mtl_safetensors *file, mtl_error *err);

/* What mtl_fit tells after each update and each epoch. */
typedef struct mtl_progress {
    size_t epoch, epochs;                   /* from 1 */
    size_t batch, batches;                  /* updates done in this epoch, and in all of it */
    int epoch_end;                          /* 1: `scores` is set */
    double seconds, train_seconds, tokens_per_second, seconds_left;   /* since the start; training alone; of
                                                                         this epoch; estimate */
    const mtl_step *step;                   /* the update just done; NULL at the end of an epoch */
    const double *task_loss;                /* [task_count] mean over the epoch so far */
    double loss;                            /* the same, times lambda and summed; without penalties */
    const mtl_scores *scores;               /* validation */
    double best_score; size_t best_epoch;
} mtl_progress;
/* Where a run of mtl_fit stands between two updates. */
typedef struct mtl_checkpoint mtl_checkpoint;
typedef struct mtl_fit_desc {
    const char *score;                      /* task whose score decides; NULL: mean over tasks */
    MTL_FIT_FIELDS(MTL__MEMBER)
    int (*progress)(void *user, const mtl_progress *progress);   /* return non-zero to stop (the best weights
                                                                    so far are kept) */
    void *user;
    const float *sampler_weights;           /* [train_count] a data set counts as if it were so many times as
                                               large, 0: not at all; NULL: 1 each */
    /* Called every `checkpoint_every` updates, and when `progress` stops the run: `at` can be saved. An error
       that it leaves in *err ends the run. NULL: no checkpoints. */
    void (*checkpoint)(void *user, const mtl_checkpoint *at, mtl_error *err);
    const char *settings;                   /* free text for checkpoints, to compare with when one is gone on
                                               from: the bytes of the tensor fit.settings; NULL: none */
    const mtl_safetensors *resume;          /* a checkpoint to go on from; NULL: a new run */
    int resume_changed;                     /* 1: although the data sets have changed */
} mtl_fit_desc;
typedef struct mtl_fit_result {
    size_t epochs, best_epoch, updates;
    double best_score, last_loss, seconds, train_seconds;
    int stopped;                            /* 1: by the callback */
} mtl_fit_result;
/* Trains on `train_count` data sets, scores on `valid_count` after each epoch, stops early, and leaves the
   best weights in the model (the last ones without validation data). desc NULL: defaults. result may be NULL.
   An epoch is as many batches as all data sets have together (each by its weight). Samplers:
       proportional  every batch of every set once, in random order
       round-robin   the sets in turn, or by their weights: whose turn is most overdue
       temperature   set s at random, by weight_s size_s^(1/t)
       uniform       the same with size^0
       annealed      the same with size^a, a going from 1 in the first epoch to 1/t in the last by equal
                     steps; t = 5 is the rule of                                  Stickland & Murray 2019
       together      in turn, and an update takes `accumulate` batches of each set
   Curriculum `length`: while it holds, a set is not shuffled but goes from its shortest sequences to its
   longest (SortaGrad:                                                                   Amodei et al. 2016).
   Allocates working memory from malloc. Error NUMBER when a loss, a gradient or an output becomes infinite or
   NaN: the message says in which epoch and batch and what to try, and the best weights so far are in the
   model all the same: result->best_epoch > 0 says that there are some, worth saving (with another mtl_error,
   or after mtl_error_clear). Within an epoch, updates of embedding rows that no batch reads may wait; every
   function that reads the model makes up for them first, so a callback sees them only through a tensor's
   `value` that it got earlier: ask mtl_model_tensor again. */
MTL_DEF mtl_status mtl_fit(mtl_trainer *trainer, const mtl_batch *train, size_t train_count,
                           const mtl_batch *valid, size_t valid_count, const mtl_fit_desc *desc,
                               mtl_fit_result *result, mtl_error *err);
/* Saves a run: model, optimiser state, the best weights so far, where the order of the data stands. To go on
   from there, in a new process or not, with the same descs and data sets and any number of threads: load the
   model of the file (mtl_model_load), create its trainer, mtl_trainer_resume, and mtl_fit with `resume` set
   to the file, which may be closed when that returns. The result is that of a run that was never interrupted,
   to the bit (by the same instruction set). Saving to a path is atomic: a crash leaves the checkpoint before.
   Errors of such a mtl_fit: TENSOR for a file that is no checkpoint, data sets of other sizes
   (`resume_changed` lets them pass), a trainer that was not resumed. */
MTL_DEF mtl_status mtl_checkpoint_save(const mtl_checkpoint *at, const char *path, mtl_error *err);
MTL_DEF mtl_status mtl_checkpoint_write(const mtl_checkpoint *at, const mtl_writer *writer, mtl_error *err);

/* ---- checking gradients -------------------------------------------------------------------------------- */

/* One array whose gradient is checked. */
typedef struct mtl_check_array {
    const char *name;
    mtl_real *value;
    const mtl_real *grad;                   /* what the backward pass says; NULL: zeros */
    size_t count;
} mtl_check_array;
typedef struct mtl_check_result {
    size_t elements, kinks;                 /* compared; left out because the function has a kink there */
    double worst_error;                     /* largest ||analytic - numeric|| / (||analytic|| + ||numeric||)
                                               over arrays */
    const char *worst_name;                 /* the array it belongs to */
    size_t worst_index;                     /* its element with the largest difference */
    double analytic, numeric;               /* there */
} mtl_check_result;
/* Compares gradients with central differences of `loss`, which computes the function from the arrays' current
   values. step 0: 1e-5. Meant for `#define MTL_REAL double`. Works for any layer of the caller's own.
   Elements whose one-sided slopes disagree at two step sizes (a kink of ReLU, max or |x|) are left out and
   counted. */
MTL_DEF mtl_status mtl_check_gradients(double (*loss)(void *user), void *user, const mtl_check_array *arrays,
                                       size_t count, double step, mtl_check_result *result, mtl_error *err);

#endif /* MTL_RNN_H */

#if defined(MTL_RNN_IMPLEMENTATION) && !defined(MTL__IMPLEMENTED)

/* ===========================================================================================================
   2  >>platform   compiler and OS differences, assertions, alignment, libc wrappers, file primitives, number
                   text
   ===========================================================================================================
   The only section with #ifdefs on the operating system. Everything below is written against what stands
   here.
   -------------------------------------------------------------------------------------------------------- */
#include <string.h>
#include <stdlib.h>
#include <stdio.h>
#include <stdint.h>
#include <math.h>

#define MTL__CAT2(a, b) a##b
#define MTL__CAT(a, b) MTL__CAT2(a, b)

/* MTL_REAL double: no vector code, libm's exp and tanh, files hold F64. The preprocessor compares the
   word. */
#define MTL__REAL_NAME_float 0
#define MTL__REAL_NAME_double 1
#define MTL__REAL_IS_DOUBLE MTL__CAT(MTL__REAL_NAME_, MTL_REAL)

#define MTL__COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define MTL__ALIGNMENT 64       /* a cache line, and an AVX-512 vector */

#ifndef MTL_MALLOC              /* define both or none */
#  define MTL_MALLOC(bytes) malloc(bytes)
#  define MTL_FREE(memory) free(memory)
#endif

#ifndef MTL_ASSERT              /* internals assert, public functions validate */
#  ifdef MTL_DEBUG
#    include <assert.h>
#    define MTL_ASSERT(condition) assert(condition)
#  else
#    define MTL_ASSERT(condition) ((void)0)
#  endif
#endif
#define MTL__ASSERT(condition) MTL_ASSERT(condition)

#if defined(__GNUC__) || defined(__clang__)
#  define MTL__UNUSED __attribute__((unused))
#  define MTL__INLINE static inline __attribute__((unused))
#  define MTL__ALWAYS_INLINE static inline __attribute__((always_inline, unused))
#  define MTL__NOINLINE __attribute__((noinline))
#  define MTL__RARE     __attribute__((cold))      /* small: for making models, reading files, and what an
                                                      update does once with a few numbers */
#  define MTL__ALIGN64 __attribute__((aligned(64)))
#  define MTL__PREFETCH(address, write) __builtin_prefetch(address, write)
#  define MTL__PREFETCH_FAR(address) __builtin_prefetch(address, 0, 2)       /* into the second-level cache */
#elif defined(_MSC_VER)
#  define MTL__UNUSED
#  define MTL__INLINE static __inline
#  define MTL__ALWAYS_INLINE static __forceinline
#  define MTL__NOINLINE __declspec(noinline)
#  define MTL__RARE
#  define MTL__ALIGN64 __declspec(align(64))
#  define MTL__PREFETCH(address, write) ((void)(address), (void)(write))
#  define MTL__PREFETCH_FAR(address) ((void)(address))
#else
#  define MTL__UNUSED
#  define MTL__INLINE static
#  define MTL__ALWAYS_INLINE static
#  define MTL__NOINLINE
#  define MTL__RARE
#  define MTL__ALIGN64
#  define MTL__PREFETCH(address, write) ((void)(address), (void)(write))
#  define MTL__PREFETCH_FAR(address) ((void)(address))
#endif

#if defined(__clang__)          /* full unrolling of a loop over a small constant count; clang ignores gcc's
                                   pragma */
#  define MTL__UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__) && !defined(__TINYC__)
#  define MTL__UNROLL _Pragma("GCC unroll 32")
#else
#  define MTL__UNROLL
#endif

#if !defined(MTL_NO_SIMD) && !defined(__TINYC__) && !MTL__REAL_IS_DOUBLE
#  if (defined(__x86_64__) || defined(_M_X64)) && (defined(__GNUC__) || defined(__clang__) || \
    defined(_MSC_VER))
#    define MTL__X86 1
#    include <immintrin.h>
#    ifdef _MSC_VER
#      include <intrin.h>
#    endif
#  elif defined(__aarch64__) && defined(__ARM_NEON)
#    define MTL__NEON 1
#    include <arm_neon.h>
#  endif
#endif

/* gcc for Windows keeps 32-byte registers on a stack that is aligned to 16 bytes, by moves that need 32: half
   of all runs crash (GCC bug 54412). Some builds are mended (Debian's, MSYS2's), but none tells; so gcc gets
   no kernels wider than 16 bytes there. MTL_WINDOWS_AVX brings them back, for a mended gcc or with
   -Wa,-muse-unaligned-vector-move. */
#if defined(_WIN32) && defined(__GNUC__) && !defined(__clang__) && !defined(MTL_WINDOWS_AVX)
#  define MTL__WIDE 0
#else
#  define MTL__WIDE 1
#endif

/* Threads: C's own are missing from too many compilers, so pthreads or Win32; MTL_NO_THREADS leaves them
   out. */
#ifndef MTL_NO_THREADS
#  ifdef _WIN32
#    ifndef WIN32_LEAN_AND_MEAN
#      define WIN32_LEAN_AND_MEAN
#    endif
#    include <windows.h>
#  else
#    include <pthread.h>
#    include <sched.h>
#  endif
#endif

/* FNV-1a, 64 bits, of bytes in pieces: begins with MTL__HASH_BEGIN. */
#define MTL__HASH_BEGIN 14695981039346656037ull
static uint64_t mtl__hash(uint64_t hash, const char *bytes, size_t length)
{
    size_t i;
    for (i = 0; i < length; i++) hash = (hash ^ (unsigned char)bytes[i]) * 1099511628211ull;
    return hash;
}

/* ---- number text ------------------------------------------------------------------------------------------
   Decimals are read and written with whole numbers of any size, so both directions are exact, and neither the
   locale, nor -ffast-math, nor the processor's flush-to-zero mode can reach them.
   Sources: for reading Clinger 1990, "How to Read Floating Point Numbers Accurately" (his algorithm that
   divides), for writing Burger & Dybvig 1996, "Printing Floating-Point Numbers Quickly and Accurately". */
#include <errno.h>
#include <float.h>

enum {
    MTL__BIG_LIMBS = 128,           /* 4096 bits; the largest number is 10^1131: 800 digits and the smallest
                                       exponent */
    MTL__DIGITS_READ = 800,         /* a point half-way between doubles has at most 767 digits; more say "a
                                       bit above" */
    MTL__DIGITS_WRITTEN = 17        /* always enough for a double */
};

/* sum over i of limb[i] 2^(32 i); the highest limb is not 0. */
typedef struct mtl__big {
    int count;
    uint32_t limb[MTL__BIG_LIMBS];
} mtl__big;

static void mtl__big_set(mtl__big *a, uint64_t value)
{
    a->limb[0] = (uint32_t)value;
    a->limb[1] = (uint32_t)(value >> 32);
    a->count = a->limb[1] ? 2 : a->limb[0] ? 1 : 0;
}

/* a = a * factor + addend */
static void mtl__big_multiply(mtl__big *a, uint32_t factor, uint32_t addend)
{
    uint64_t spill = addend;
    int i;
    for (i = 0; i < a->count; i++) {
        spill += (uint64_t)a->limb[i] * factor;
        a->limb[i] = (uint32_t)spill;
        spill >>= 32;
    }
    MTL__ASSERT(!spill || a->count < MTL__BIG_LIMBS);
    if (spill) a->limb[a->count++] = (uint32_t)spill;
}

/* a = a * 10^power */
static void mtl__big_multiply_power10(mtl__big *a, int power)
{
    for (; power >= 9; power -= 9) mtl__big_multiply(a, 1000000000u, 0);
    for (; power > 0; power--) mtl__big_multiply(a, 10, 0);
}

/* a = a * 2^bits */
static void mtl__big_shift(mtl__big *a, int bits)
{
    int limbs = bits / 32;
    mtl__big_multiply(a, (uint32_t)1 << bits % 32, 0);
    if (!limbs || !a->count) return;
    MTL__ASSERT(a->count + limbs <= MTL__BIG_LIMBS);
    memmove(a->limb + limbs, a->limb, (size_t)a->count * sizeof a->limb[0]);
    memset(a->limb, 0, (size_t)limbs * sizeof a->limb[0]);
    a->count += limbs;
}

/* < 0, 0 or > 0 as a < b, a == b or a > b */
static int mtl__big_compare(const mtl__big *a, const mtl__big *b)
{
    int i;
    if (a->count != b->count) return a->count - b->count;
    for (i = a->count - 1; i >= 0; i--)
        if (a->limb[i] != b->limb[i]) return a->limb[i] < b->limb[i] ? -1 : 1;
    return 0;
}

/* a = a - b, where a >= b */
static void mtl__big_subtract(mtl__big *a, const mtl__big *b)
{
    uint64_t borrow = 0;
    int i;
    for (i = 0; i < a->count; i++) {
        uint64_t difference = (uint64_t)a->limb[i] - (i < b->count ? b->limb[i] : 0) - borrow;
        a->limb[i] = (uint32_t)difference;
        borrow = difference >> 63;
    }
    while (a->count > 0 && !a->limb[a->count - 1]) a->count--;
}

/* Compares a + b with c. */
static int mtl__big_compare_sum(const mtl__big *a, const mtl__big *b, const mtl__big *c)
{
    mtl__big sum;
    uint64_t spill = 0;
    sum.count = 0;
    while (sum.count < a->count || sum.count < b->count || spill) {
        int i = sum.count++;
        spill += (uint64_t)(i < a->count ? a->limb[i] : 0) + (i < b->count ? b->limb[i] : 0);
        sum.limb[i] = (uint32_t)spill;
        spill >>= 32;
    }
    return mtl__big_compare(&sum, c);
}

static int mtl__big_bits(const mtl__big *a)
{
    uint32_t top = a->count ? a->limb[a->count - 1] : 0;
    int bits = 32 * (a->count - (a->count > 0));
    for (; top; top >>= 1) bits++;
    return bits;
}

/* A decimal as it stands in a text: digits * 10^exponent. */
typedef struct mtl__decimal {
    const char *digits, *end;               /* from the first digit that is not 0; a '.' may stand among
                                               them */
    long exponent;
    long significant;                       /* how many digits */
    uint64_t head;                          /* the first 19 of them as a number */
    int negative;
} mtl__decimal;

MTL__INLINE int mtl__is_digit(char c) { return c >= '0' && c <= '9'; }

/* The digits before an exponent, "12.5" or ".5" or "12."; returns where they end, NULL when there is none. */
static const char *mtl__decimal_scan(mtl__decimal *decimal, const char *text, const char *end)
{
    int any = 0, point = 0;
    decimal->digits = NULL;
    decimal->exponent = decimal->significant = 0;
    decimal->head = 0;
    for (; text < end && (mtl__is_digit(*text) || (*text == '.' && !point)); text++) {
        if (*text == '.') {
            point = 1;
            continue;
        }
        any = 1;
        decimal->exponent -= point;
        if (!decimal->significant && *text == '0') continue;
        if (!decimal->significant) decimal->digits = text;
        if (decimal->significant++ < 19) decimal->head = decimal->head * 10 + (uint64_t)(*text - '0');
    }
    decimal->end = text;
    return any ? text : NULL;
}

/* All of text[length] as a decimal; 0 when it is not one. */
static int mtl__decimal_parse(mtl__decimal *decimal, const char *text, size_t length)
{
    const char *end = text + length;
    long power = 0;
    int minus;
    decimal->negative = length > 0 && *text == '-';
    if (length > 0 && (*text == '-' || *text == '+')) text++;
    text = mtl__decimal_scan(decimal, text, end);
    if (!text || text == end) return text != NULL;
    if (*text != 'e' && *text != 'E') return 0;
    text++;
    minus = text < end && *text == '-';
    if (text < end && (*text == '-' || *text == '+')) text++;
    if (text == end) return 0;
    for (; text < end && mtl__is_digit(*text); text++)
        if (power < 100000000) power = power * 10 + (*text - '0');
    decimal->exponent += minus ? -power : power;
    return text == end;
}

/* The decimal's digits as a whole number, at most MTL__DIGITS_READ and one more; returns the power of ten
   that is left. */
static int mtl__decimal_to_big(const mtl__decimal *decimal, mtl__big *big)
{
    const char *c;
    int digits = 0, rest = 0;
    big->count = 0;
    for (c = decimal->digits; c < decimal->end; c++) {
        if (*c == '.') continue;
        if (digits < MTL__DIGITS_READ) {
            mtl__big_multiply(big, 10, (uint32_t)(*c - '0'));
            digits++;
        } else {
            rest |= *c != '0';
        }
    }
    if (rest) {                             /* which digits were dropped does not matter, that there were any
                                               does */
        mtl__big_multiply(big, 10, 1);
        digits++;
    }
    return (int)(decimal->significant + decimal->exponent) - digits;
}

/* Bits of the double nearest to a / b (half: to even), a and b > 0 and overwritten. Long division, one bit at
   a time. */
static uint64_t mtl__big_quotient(mtl__big *a, mtl__big *b)
{
    int exponent = mtl__big_bits(a) - mtl__big_bits(b), bits, i, order;
    uint64_t mantissa = 0;
    mtl__big_shift(exponent < 0 ? a : b, exponent < 0 ? -exponent : exponent);
    if (mtl__big_compare(a, b) < 0) {
        mtl__big_shift(a, 1);
        exponent--;
    }
    /* now a / b is in [1, 2) and is to be multiplied by 2^exponent */
    bits = exponent >= -1022 ? 53 : exponent + 1022 + 53;
    for (i = 0; i < bits; i++) {
        mantissa <<= 1;
        if (mtl__big_compare(a, b) >= 0) {
            mtl__big_subtract(a, b);
            mantissa |= 1;
        }
        mtl__big_shift(a, 1);
    }
    order = mtl__big_compare(a, b);         /* the rest against one half */
    if (bits >= 0 && (order > 0 || (order == 0 && (mantissa & 1)))) mantissa++;
    if (exponent > 1023) return (uint64_t)0x7ff << 52;
    /* the mantissa's leading 1 counts the exponent up, also where rounding has just made it */
    return mantissa + ((uint64_t)(exponent >= -1022 ? exponent + 1022 : 0) << 52);
}

static uint64_t mtl__decimal_to_bits(const mtl__decimal *decimal)
{
    long magnitude = decimal->significant + decimal->exponent;      /* 10^(magnitude-1) <= value <
                                                                       10^magnitude */
    mtl__big number, divisor;
    int power;
    if (!decimal->significant || magnitude < -330) return 0;
    if (magnitude > 310) return (uint64_t)0x7ff << 52;
    power = mtl__decimal_to_big(decimal, &number);
    mtl__big_set(&divisor, 1);
    mtl__big_multiply_power10(power < 0 ? &divisor : &number, power < 0 ? -power : power);
    return mtl__big_quotient(&number, &divisor);
}

/* Most numbers in files: both factors are exact doubles, so that one rounding operation is the correct
   rounding. */
static int mtl__decimal_quick(const mtl__decimal *decimal, double *out)
{
#if !defined(FLT_EVAL_METHOD) || FLT_EVAL_METHOD == 0
    static const double powers[23] = { 1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12,
        1e13, 1e14, 1e15, 1e16,
                                       1e17, 1e18, 1e19, 1e20, 1e21, 1e22 };
    volatile double power;          /* so that -ffast-math cannot divide by way of a reciprocal */
    if (decimal->significant > 19 || decimal->head >> 53 || decimal->exponent < -22 || decimal->exponent > 22)
        return 0;
    power = powers[decimal->exponent < 0 ? -decimal->exponent : decimal->exponent];
    *out = decimal->exponent < 0 ? (double)decimal->head / power : (double)decimal->head * power;
    return 1;
#else
    (void)decimal, (void)out;       /* wider registers round twice */
    return 0;
#endif
}

MTL_DEF int mtl_text_number(const char *text, size_t length, double *out)
{
    mtl__decimal decimal;
    uint64_t bits;
    double value;
    if (!text || !out || !mtl__decimal_parse(&decimal, text, length)) return 0;
    if (mtl__decimal_quick(&decimal, &value)) memcpy(&bits, &value, sizeof bits);
    else bits = mtl__decimal_to_bits(&decimal);
    if (bits >> 52 == 0x7ff) return 0;
    if (decimal.negative) bits |= (uint64_t)1 << 63;
    memcpy(out, &bits, sizeof bits);
    return 1;
}

/* A double's value as mantissa * 2^exponent, and what lies beside it. */
typedef struct mtl__binary {
    uint64_t mantissa;
    int exponent;
    int closer_below;                       /* the next number below is half as far as the one above */
    int is_float;                           /* it is one that a float can hold: its neighbours are the
                                               floats */
} mtl__binary;

/* Can a float hold mantissa * 2^(exponent - 52)? Whole numbers below 2^64 are never treated as floats: a
   count such as 1073741824 must not become 1073741800. *spare: how many of the mantissa's last bits a float
   does not have there. */
static int mtl__is_float(uint64_t mantissa, int exponent, int *spare)
{
    int whole = exponent >= 0 && exponent < 64 && (exponent > 52 ||
                                                   !(mantissa & (((uint64_t)1 << (52 - exponent)) - 1)));
    *spare = exponent < -126 ? 29 + (-126 - exponent) : 29;
    if (whole || exponent < -149 || exponent > 127) return 0;
    return !(mantissa & (((uint64_t)1 << *spare) - 1));
}

static mtl__binary mtl__binary_of(uint64_t bits)
{
    mtl__binary b;
    int field = (int)(bits >> 52), spare;
    b.mantissa = bits & (((uint64_t)1 << 52) - 1);
    b.closer_below = !b.mantissa && field > 1;
    if (field) b.mantissa |= (uint64_t)1 << 52;
    b.exponent = (field ? field : 1) - 1075;
    b.is_float = mtl__is_float(b.mantissa, b.exponent + 52, &spare);
    if (b.is_float) {
        if (b.exponent + 52 <= -126) b.closer_below = 0;
        b.mantissa >>= spare;
        b.exponent += spare;
    }
    return b;
}

/* value = number / unit; texts between value - below / unit and value + above / unit read back as it. */
typedef struct mtl__digit_maker { mtl__big number, unit, below, above; int inclusive; } mtl__digit_maker;

static void mtl__digit_maker_init(mtl__digit_maker *s, const mtl__binary *b)
{
    int up = b->exponent > 0 ? b->exponent : 0, down = b->exponent < 0 ? -b->exponent : 0;
    /* A float is read as a double first and rounded again; keeping a millionth of the interval's width away
       from its ends makes sure that the first rounding cannot land on an end. */
    int guard = b->is_float ? 20 : 0;
    uint64_t half = ((uint64_t)1 << guard) - (uint64_t)b->is_float;
    mtl__big_set(&s->number, b->mantissa);
    mtl__big_shift(&s->number, up + 2 + guard);
    mtl__big_set(&s->unit, 1);
    mtl__big_shift(&s->unit, down + 2 + guard);
    mtl__big_set(&s->above, half * 2);
    mtl__big_shift(&s->above, up);
    mtl__big_set(&s->below, b->closer_below ? half : half * 2);
    mtl__big_shift(&s->below, up);
    s->inclusive = !(b->mantissa & 1);      /* half-way cases are read as the even one */
}

static int mtl__digit_maker_reaches(const mtl__digit_maker *s)      /* is value + above at the next power of
                                                                       ten? */
{
    return mtl__big_compare_sum(&s->number, &s->above, &s->unit) >= !s->inclusive;
}

static void mtl__digit_maker_times10(mtl__digit_maker *s)
{
    mtl__big_multiply(&s->number, 10, 0);
    mtl__big_multiply(&s->below, 10, 0);
    mtl__big_multiply(&s->above, 10, 0);
}

/* Scales so that the first digit comes next; returns the power: value = 0.ddd * 10^power. */
static int mtl__digit_maker_scale(mtl__digit_maker *s, int bits)
{
    int power = (int)((double)bits * 0.30103);      /* near log10 of value; the loops make it exact */
    if (power > 0) {
        mtl__big_multiply_power10(&s->unit, power);
    } else {
        mtl__big_multiply_power10(&s->number, -power);
        mtl__big_multiply_power10(&s->below, -power);
        mtl__big_multiply_power10(&s->above, -power);
    }
    for (; mtl__digit_maker_reaches(s); power++) mtl__big_multiply(&s->unit, 10, 0);
    for (;;) {
        mtl__digit_maker_times10(s);
        if (mtl__digit_maker_reaches(s)) return power;
        power--;
    }
}

/* The fewest digits that lie in the interval, the nearest of those. Returns how many; *power: value = 0.ddd *
   10^power. */
static int mtl__shortest_digits(uint64_t bits, char *digits, int *power)
{
    mtl__binary b = mtl__binary_of(bits);
    mtl__digit_maker s;
    int count = 0, low, high;
    mtl__digit_maker_init(&s, &b);
    *power = mtl__digit_maker_scale(&s, mtl__big_bits(&s.number) - mtl__big_bits(&s.unit));
    for (;;) {
        int digit = 0;
        for (; mtl__big_compare(&s.number, &s.unit) >= 0; digit++) mtl__big_subtract(&s.number, &s.unit);
        low = mtl__big_compare(&s.number, &s.below) < s.inclusive;
        high = mtl__digit_maker_reaches(&s);
        if (low && high) high = mtl__big_compare_sum(&s.number, &s.number, &s.unit) >= 0;
        digits[count++] = (char)('0' + digit + high);
        if (low || high) return count;
        mtl__digit_maker_times10(&s);
    }
}

static char *mtl__put(char *out, const char *text, int count)
{
    memcpy(out, text, (size_t)count);
    return out + count;
}

/* Lays digits out, 0.ddd * 10^power: plainly from 0.00001 to 17 digits before the point, else with an
   exponent. */
static char *mtl__lay_out_digits(char *out, const char *digits, int count, int power)
{
    static const char zeros[] = "00000000000000000";
    int exponent = power - 1;
    if (power > -5 && power <= 0) {
        out = mtl__put(mtl__put(out, "0.", 2), zeros, -power);
        return mtl__put(out, digits, count);
    }
    if (power > 0 && power <= MTL__DIGITS_WRITTEN) {
        out = mtl__put(out, digits, count < power ? count : power);
        if (count <= power) return mtl__put(out, zeros, power - count);
        return mtl__put(mtl__put(out, ".", 1), digits + power, count - power);
    }
    *out++ = digits[0];
    if (count > 1) out = mtl__put(mtl__put(out, ".", 1), digits + 1, count - 1);
    *out++ = 'e';
    if (exponent < 0) *out++ = '-';
    if (exponent < 0) exponent = -exponent;
    if (exponent >= 100) *out++ = (char)('0' + exponent / 100);
    if (exponent >= 10) *out++ = (char)('0' + exponent / 10 % 10);
    *out++ = (char)('0' + exponent % 10);
    return out;
}

MTL_DEF size_t mtl_text_from_number(double value, char *out)
{
    char digits[MTL__DIGITS_WRITTEN + 3], *end = out;
    uint64_t bits;
    int count, power;
    memcpy(&bits, &value, sizeof bits);
    if (bits >> 63) *end++ = '-';
    bits &= ((uint64_t)1 << 63) - 1;
    if (bits >> 52 == 0x7ff) {
        int nan = bits << 12 != 0;
        end = mtl__put(nan ? out : end, nan ? "nan" : "inf", 3);
    } else if (bits == 0) {
        *end++ = '0';
    } else {
        count = mtl__shortest_digits(bits, digits, &power);
        end = mtl__lay_out_digits(end, digits, count, power);
    }
    *end = '\0';
    return (size_t)(end - out);
}

/* ---- files ------------------------------------------------------------------------------------------------
   Functions here return errno's number, 0 when all went well; >>formats turns them into an mtl_error. Three
   systems: POSIX; Win32, by the same descriptors (paths are UTF-8, or else in the system's code page); and
   stdio alone, for
   anything else or with MTL_PLAIN_FILES defined. There the last step of a save is "remove, then
   rename". */
#if defined(MTL_PLAIN_FILES)
#  define MTL__FILES_STDIO 1
#elif defined(_WIN32)
#  define MTL__FILES_WIN32 1
#  ifndef WIN32_LEAN_AND_MEAN
#    define WIN32_LEAN_AND_MEAN
#  endif
#  include <windows.h>
#  include <io.h>
#  include <fcntl.h>
#  include <sys/types.h>
#  include <sys/stat.h>
#elif defined(__unix__) || defined(__unix) || defined(__APPLE__) || defined(__linux__)
#  define MTL__FILES_POSIX 1
#  include <sys/types.h>
#  include <sys/stat.h>
#  include <sys/mman.h>
#  include <fcntl.h>
#  include <unistd.h>
#  if defined(__STRICT_ANSI__) && !defined(__cplusplus) && (!defined(_POSIX_C_SOURCE) || \
    _POSIX_C_SOURCE < 200112L)
/* With -std=c99 glibc hides readlink (old ones fsync too), and by the time this header is read it is too late
   to ask for them. POSIX (XSH 2.1.1) lets a program declare a function itself; a second, equal declaration
   does no harm. */
extern int fsync(int descriptor);
extern ssize_t readlink(const char *path, char *target, size_t size);
#  endif
#else
#  define MTL__FILES_STDIO 1
#endif

enum { MTL__FILE_NONE, MTL__FILE_REGULAR, MTL__FILE_FOLDER, MTL__FILE_OTHER };  /* other: a device, a pipe */
enum { MTL__OPEN_READ, MTL__OPEN_NEW, MTL__OPEN_WRITE };                   /* new: fails if the file exists */

/* The last error's number, where a library may have forgotten to set it. */
MTL__INLINE int mtl__os_error(void) { return errno ? errno : EIO; }

/* What a person can do about an error number, to be put behind its text. */
static const char *mtl__os_advice(int error, int writing)
{
    switch (error) {
    case ENOENT: return writing ? "; check the path, create the folder first" : "; check the path";
#ifdef MTL__FILES_WIN32
    case EACCES: case EPERM: return "; close programs that have it open, or choose a file that you may use";
#else
    case EACCES: case EPERM: return "; choose a file and folder that you may use";
#endif
    case EISDIR: return "; give the path of a file, not of a folder";
    case ENOTDIR: return "; a part of the path is a file, not a folder";
    case ENOSPC: return "; free some space or choose another place";
    case EFBIG: return "; raise the limit on file sizes (ulimit -f)";
    case EROFS: return "; choose a place that can be written to";
    case EMFILE: case ENFILE: return "; close some files first";
#ifdef EDQUOT
    case EDQUOT: return "; free some space or choose another place";
#endif
    default: return "";
    }
}

#if defined(MTL__FILES_POSIX) || defined(MTL__FILES_WIN32)
typedef int mtl__handle;

#ifdef MTL__FILES_WIN32
enum { MTL__FLAGS_READ = _O_RDONLY | _O_BINARY, MTL__FLAGS_NEW = _O_WRONLY | _O_CREAT | _O_EXCL | _O_BINARY,
       MTL__FLAGS_WRITE = _O_WRONLY | _O_BINARY };
/* errno's number for what a Win32 function said last. */
static int mtl__win_error(void)
{
    switch (GetLastError()) {
    case ERROR_FILE_NOT_FOUND: case ERROR_PATH_NOT_FOUND: return ENOENT;
    case ERROR_INVALID_NAME: case ERROR_BAD_PATHNAME: return ENOENT;
    case ERROR_FILE_EXISTS: case ERROR_ALREADY_EXISTS: return EEXIST;
    case ERROR_ACCESS_DENIED: case ERROR_SHARING_VIOLATION: case ERROR_LOCK_VIOLATION: return EACCES;
    case ERROR_TOO_MANY_OPEN_FILES: return EMFILE;
    case ERROR_DISK_FULL: case ERROR_HANDLE_DISK_FULL: return ENOSPC;
    case ERROR_NOT_ENOUGH_MEMORY: case ERROR_OUTOFMEMORY: return ENOMEM;
    case ERROR_WRITE_PROTECT: return EROFS;
    default: return EIO;
    }
}

/* A path as Windows wants it, in malloc's memory. */
static wchar_t *mtl__path_wide(const char *path)
{
    const int is_utf8 = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, NULL, 0) > 0;
    const unsigned page = is_utf8 ? CP_UTF8 : CP_ACP;
    const int count = MultiByteToWideChar(page, 0, path, -1, NULL, 0);
    wchar_t *wide = (wchar_t *)MTL_MALLOC((size_t)(count + 1) * sizeof *wide);
    if (wide) wide[MultiByteToWideChar(page, 0, path, -1, wide, count)] = 0;
    return wide;
}

/* Others may replace the file while it is open, which _open would not let them. */
static int mtl__fd_open(const char *path, int flags)
{
    const DWORD share = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
    wchar_t *wide = mtl__path_wide(path);
    HANDLE file;
    int fd = -1;
    if (!wide) {
        errno = ENOMEM;
        return -1;
    }
    file = CreateFileW(wide, flags & _O_WRONLY ? GENERIC_WRITE : GENERIC_READ, share, NULL,
                       flags & _O_EXCL ? CREATE_NEW : OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, NULL);
    if (file == INVALID_HANDLE_VALUE) errno = mtl__win_error();
    else if ((fd = _open_osfhandle((intptr_t)file, flags)) < 0) CloseHandle(file);
    MTL_FREE(wide);
    return fd;
}
MTL__INLINE long long mtl__fd_read(int fd, void *bytes, size_t count)
{
    return _read(fd, bytes, (unsigned)count);
}
MTL__INLINE long long mtl__fd_write(int fd, const void *bytes, size_t count)
{
    return _write(fd, bytes, (unsigned)count);
}
MTL__INLINE int mtl__fd_sync(int fd) { return _commit(fd); }
MTL__INLINE int mtl__fd_close(int fd) { return _close(fd); }
typedef struct _stat64 mtl__stat;
static int mtl__fd_stat(const char *path, mtl__stat *status)
{
    wchar_t *wide = mtl__path_wide(path);
    const int failed = !wide || _wstat64(wide, status) != 0;
    if (wide) MTL_FREE(wide);
    return failed ? -1 : 0;
}
#  define MTL__IS_FOLDER(mode) (((mode) & _S_IFMT) == _S_IFDIR)
#  define MTL__IS_REGULAR(mode) (((mode) & _S_IFMT) == _S_IFREG)
#else
#  ifdef O_CLOEXEC
#    define MTL__CLOEXEC O_CLOEXEC
#  else
#    define MTL__CLOEXEC 0
#  endif
enum { MTL__FLAGS_READ = O_RDONLY | MTL__CLOEXEC, MTL__FLAGS_NEW = O_WRONLY | O_CREAT | O_EXCL | MTL__CLOEXEC,
       MTL__FLAGS_WRITE = O_WRONLY | MTL__CLOEXEC };
MTL__INLINE int mtl__fd_open(const char *path, int flags) { return open(path, flags, 0666); }
MTL__INLINE long long mtl__fd_read(int fd, void *bytes, size_t count) { return read(fd, bytes, count); }
MTL__INLINE long long mtl__fd_write(int fd, const void *bytes, size_t count)
{
    return write(fd, bytes, count);
}
MTL__INLINE int mtl__fd_sync(int fd) { return fsync(fd); }
MTL__INLINE int mtl__fd_close(int fd) { return close(fd); }
typedef struct stat mtl__stat;
MTL__INLINE int mtl__fd_stat(const char *path, mtl__stat *status) { return stat(path, status); }
#  define MTL__IS_FOLDER(mode) S_ISDIR(mode)
#  define MTL__IS_REGULAR(mode) S_ISREG(mode)
#endif

static int mtl__os_open(const char *path, int how, mtl__handle *handle)
{
    static const int flags[] = { MTL__FLAGS_READ, MTL__FLAGS_NEW, MTL__FLAGS_WRITE };
    errno = 0;
    *handle = mtl__fd_open(path, flags[how]);
    return *handle < 0 ? mtl__os_error() : 0;
}

/* Fewer than `count` bytes only at the end, or when *error is set. */
static size_t mtl__os_read(mtl__handle handle, void *bytes, size_t count, int *error)
{
    const size_t most = (size_t)1 << 30;    /* some systems take no more at once */
    size_t done = 0;
    while (done < count && !*error) {
        long long n;
        errno = 0;
        n = mtl__fd_read(handle, (char *)bytes + done, count - done < most ? count - done : most);
        if (n == 0) break;
        if (n > 0) done += (size_t)n;
        else if (errno != EINTR) *error = mtl__os_error();
    }
    return done;
}

static int mtl__os_write(mtl__handle handle, const void *bytes, size_t count)
{
    const size_t most = (size_t)1 << 30;
    size_t done = 0;
    while (done < count) {
        long long n;
        errno = 0;
        n = mtl__fd_write(handle, (const char *)bytes + done, count - done < most ? count - done : most);
        if (n > 0) done += (size_t)n;
        else if (n == 0 || errno != EINTR) return mtl__os_error();
    }
    return 0;
}

/* Waits until the bytes are on the disk. Devices and pipes have no such thing (EINVAL). */
static int mtl__os_sync(mtl__handle handle)
{
    errno = 0;
    return mtl__fd_sync(handle) == 0 || errno == EINVAL ? 0 : mtl__os_error();
}

static int mtl__os_close(mtl__handle handle)
{
    errno = 0;
    return mtl__fd_close(handle) == 0 || errno == EINTR ? 0 : mtl__os_error();
}

static int mtl__os_kind(const char *path)
{
    mtl__stat status;
    if (mtl__fd_stat(path, &status) != 0) return MTL__FILE_NONE;
    if (MTL__IS_REGULAR(status.st_mode)) return MTL__FILE_REGULAR;
    return MTL__IS_FOLDER(status.st_mode) ? MTL__FILE_FOLDER : MTL__FILE_OTHER;
}

#else   /* stdio alone */
typedef FILE *mtl__handle;

static int mtl__os_kind(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file) fclose(file);
    return file ? MTL__FILE_REGULAR : MTL__FILE_NONE;
}

static int mtl__os_open(const char *path, int how, mtl__handle *handle)
{
    if (how == MTL__OPEN_NEW && mtl__os_kind(path) != MTL__FILE_NONE) return EEXIST;
    errno = 0;
    *handle = fopen(path, how == MTL__OPEN_READ ? "rb" : "wb");
    return *handle ? 0 : mtl__os_error();
}

static size_t mtl__os_read(mtl__handle handle, void *bytes, size_t count, int *error)
{
    size_t done;
    errno = 0;
    done = fread(bytes, 1, count, handle);
    if (done < count && ferror(handle)) *error = mtl__os_error();
    return done;
}

static int mtl__os_write(mtl__handle handle, const void *bytes, size_t count)
{
    errno = 0;
    return fwrite(bytes, 1, count, handle) == count ? 0 : mtl__os_error();
}

static int mtl__os_sync(mtl__handle handle)
{
    errno = 0;
    return fflush(handle) == 0 ? 0 : mtl__os_error();
}

static int mtl__os_close(mtl__handle handle)
{
    errno = 0;
    return fclose(handle) == 0 ? 0 : mtl__os_error();
}
#endif

/* Bytes of the folder part of a path, its last separator included. */
static size_t mtl__path_folder(const char *path)
{
    size_t length = strlen(path);
#ifdef MTL__FILES_WIN32
    while (length > 0 && path[length - 1] != '/' && path[length - 1] != '\\' && path[length - 1] != ':')
        length--;
#else
    while (length > 0 && path[length - 1] != '/') length--;
#endif
    return length;
}

/* The caller's own MTL_FREE may not take NULL. */
MTL__INLINE void mtl__release(void *memory)
{
    if (memory) MTL_FREE(memory);
}

/* The first `folder` bytes of path and then name[length], in malloc's memory. */
static char *mtl__path_join(const char *path, size_t folder, const char *name, size_t length)
{
    char *joined = (char *)MTL_MALLOC(folder + length + 1);
    if (joined) {
        memcpy(joined, path, folder);
        memcpy(joined + folder, name, length);
        joined[folder + length] = '\0';
    }
    return joined;
}

/* The file that a path means in the end, in malloc's memory: renaming over a symbolic link would replace the
   link. */
static char *mtl__path_follow(const char *path, int *error)
{
    char *current = mtl__path_join("", 0, path, strlen(path));
#ifdef MTL__FILES_POSIX
    char link[4096];
    int hops;
    for (hops = 0; current; hops++) {
        ssize_t length = readlink(current, link, sizeof link);
        char *next;
        if (length < 0) break;              /* not a link: the usual case */
        if (hops == 40 || length == (ssize_t)sizeof link) {
            *error = ELOOP;
            break;
        }
        next = mtl__path_join(current, link[0] == '/' ? 0 : mtl__path_folder(current), link, (size_t)length);
        MTL_FREE(current);
        current = next;
    }
#endif
    if (!current) *error = ENOMEM;
    return current;
}

#ifdef MTL__FILES_WIN32
/* A file that is open cannot be written over, but if it was opened as ours are it can be moved aside and
   removed from there. A crash between the two leaves it there. */
static int mtl__win_replace(const wchar_t *from, const wchar_t *to, const wchar_t *aside)
{
    int error;
    if (MoveFileExW(from, to, MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH)) return 0;
    error = mtl__win_error();
    if (error != EACCES || !MoveFileExW(to, aside, 0)) return error;
    if (MoveFileExW(from, to, MOVEFILE_WRITE_THROUGH)) {
        DeleteFileW(aside);
        return 0;
    }
    error = mtl__win_error();
    MoveFileExW(aside, to, 0);
    return error;
}
#endif

/* Puts the finished file `from` in the place of `to`. */
static int mtl__os_replace(const char *from, const char *to)
{
#if defined(MTL__FILES_WIN32)
    char *old = mtl__path_join(from, strlen(from), ".old", 4);
    wchar_t *wide_from = mtl__path_wide(from), *wide_to = mtl__path_wide(to);
    wchar_t *aside = old ? mtl__path_wide(old) : NULL;
    const int error = wide_from && wide_to && aside ? mtl__win_replace(wide_from, wide_to, aside) : ENOMEM;
    mtl__release(old);
    mtl__release(wide_from);
    mtl__release(wide_to);
    mtl__release(aside);
    return error;
#else
#  if defined(MTL__FILES_POSIX)
    mtl__stat status;
    if (stat(to, &status) == 0) (void)chmod(from, status.st_mode & 07777);      /* as before; not vital */
#  else
    remove(to);
#  endif
    errno = 0;
    return rename(from, to) == 0 ? 0 : mtl__os_error();
#endif
}

static void mtl__os_remove(const char *path)
{
#ifdef MTL__FILES_WIN32
    wchar_t *wide = mtl__path_wide(path);
    if (wide) DeleteFileW(wide);
    mtl__release(wide);
#else
    remove(path);
#endif
}

/* Makes a rename in a path's folder last. Not every file system can; then a crash brings back the old file,
   which is whole. The path is cut to its folder; one without a folder must begin with a dot, which then is
   what remains. */
static void mtl__os_sync_folder(char *path)
{
#ifdef MTL__FILES_POSIX
    size_t length = mtl__path_folder(path);
    mtl__handle handle;
    path[length ? length : 1] = '\0';
    if (mtl__os_open(path, MTL__OPEN_READ, &handle) == 0) {
        (void)mtl__os_sync(handle);
        (void)mtl__os_close(handle);
    }
#else
    (void)path;
#endif
}

/* May an existing file be overwritten? A rename asks the folder alone, but a file that is write-protected is
   so on purpose. */
static int mtl__os_protected(const char *path)
{
#ifdef MTL__FILES_POSIX
    return access(path, W_OK) != 0;
#elif defined(MTL__FILES_WIN32)
    mtl__stat status;
    return mtl__fd_stat(path, &status) == 0 && !(status.st_mode & _S_IWRITE);
#else
    (void)path;
    return 0;
#endif
}

/* Writing a file so that a crash leaves the old file or the new one: into a temporary file of the same
   folder, which takes the place of the old one at the end. Devices and pipes are written in place. The first
   error stays and stops all writing. */
typedef struct mtl__file_writer {
    char *target;
    char *temporary;                        /* NULL: written in place */
    mtl__handle handle;
    int error;
    int is_open;
    size_t used;
    unsigned char buffer[8192];
} mtl__file_writer;

static int mtl__file_writer_open_temporary(mtl__file_writer *writer)
{
    size_t folder = mtl__path_folder(writer->target);
    int attempt, error = EEXIST;
    for (attempt = 0; attempt < 1000 && error == EEXIST; attempt++) {
        char name[64];
#if defined(MTL__FILES_POSIX)
        int length = sprintf(name, ".mtl-%ld-%d.tmp", (long)getpid(), attempt);
#elif defined(MTL__FILES_WIN32)
        int length = sprintf(name, ".mtl-%ld-%d.tmp", (long)GetCurrentProcessId(), attempt);
#else
        int length = sprintf(name, "mtl-%d.tmp", attempt);
#endif
        mtl__release(writer->temporary);
        writer->temporary = mtl__path_join(writer->target, folder, name, (size_t)length);
        error = writer->temporary ? mtl__os_open(writer->temporary, MTL__OPEN_NEW, &writer->handle) : ENOMEM;
    }
    writer->is_open = !error;
    return error;
}

static int mtl__file_writer_open_target(mtl__file_writer *writer)
{
    int kind = mtl__os_kind(writer->target), error;
    if (!writer->target[0]) return ENOENT;
    if (kind == MTL__FILE_FOLDER) return EISDIR;
    if (kind == MTL__FILE_REGULAR && mtl__os_protected(writer->target)) return EACCES;
    if (kind != MTL__FILE_OTHER) return mtl__file_writer_open_temporary(writer);
    error = mtl__os_open(writer->target, MTL__OPEN_WRITE, &writer->handle);
    writer->is_open = !error;
    return error;
}

static void mtl__file_writer_flush(mtl__file_writer *writer)
{
    if (!writer->error) writer->error = mtl__os_write(writer->handle, writer->buffer, writer->used);
    writer->used = 0;
}

/* Fits mtl_writer: 0 when all bytes were taken. */
static int mtl__file_writer_write(void *user, const void *bytes, size_t count)
{
    mtl__file_writer *writer = (mtl__file_writer *)user;
    if (count > sizeof writer->buffer - writer->used) mtl__file_writer_flush(writer);
    if (writer->error) return -1;
    if (count > sizeof writer->buffer) {
        writer->error = mtl__os_write(writer->handle, bytes, count);
    } else if (count) {
        memcpy(writer->buffer + writer->used, bytes, count);
        writer->used += count;
    }
    return writer->error ? -1 : 0;
}

/* Ends writing. keep 0, or an error: the temporary file goes and the old file stays. Returns the first error
   of all. */
static int mtl__file_writer_close(mtl__file_writer *writer, int keep)
{
    if (writer->is_open) {
        int error;
        if (keep) mtl__file_writer_flush(writer);
        if (keep && !writer->error) writer->error = mtl__os_sync(writer->handle);
        error = mtl__os_close(writer->handle);
        if (keep && !writer->error) writer->error = error;
        if (writer->temporary && keep && !writer->error)
            writer->error = mtl__os_replace(writer->temporary, writer->target);
        if (writer->temporary && (!keep || writer->error)) mtl__os_remove(writer->temporary);
        else if (writer->temporary) mtl__os_sync_folder(writer->temporary);
    }
    mtl__release(writer->temporary);
    mtl__release(writer->target);
    writer->temporary = writer->target = NULL;
    writer->is_open = 0;
    return writer->error;
}

static int mtl__file_writer_open(mtl__file_writer *writer, const char *path)
{
    writer->temporary = NULL;
    writer->error = writer->is_open = 0;
    writer->used = 0;
    writer->target = mtl__path_follow(path, &writer->error);
    if (!writer->error) writer->error = mtl__file_writer_open_target(writer);
    if (writer->error) mtl__file_writer_close(writer, 0);
    return writer->error;
}

/* Maps an open file for reading; 0 when that cannot be done (it is empty, a pipe, or the system has no
   mapping). */
static int mtl__os_map(mtl__handle handle, void **bytes, size_t *count)
{
#ifdef MTL__FILES_POSIX
    struct stat status;
    void *memory;
    if (fstat(handle, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size <= 0) return 0;
    if ((unsigned long long)status.st_size > (size_t)-1 / 2) return 0;
    memory = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, handle, 0);
    if (memory == MAP_FAILED) return 0;
    *bytes = memory;
    *count = (size_t)status.st_size;
    return 1;
#else
    (void)handle, (void)bytes, (void)count;
    return 0;
#endif
}

static void mtl__os_unmap(void *bytes, size_t count)
{
#ifdef MTL__FILES_POSIX
    munmap(bytes, count);
#else
    (void)bytes, (void)count;
#endif
}

/* ---- time ---------------------------------------------------------------------------------------------- */
#include <time.h>
#if defined(MTL__FILES_POSIX)
#  include <sys/time.h>
#  if defined(CLOCK_MONOTONIC)
#    define MTL__CLOCK CLOCK_MONOTONIC
#  elif defined(__linux__) && defined(__LP64__) && !defined(__cplusplus)
#    include <sched.h>              /* has struct timespec where -std=c99 takes it out of <time.h> */
extern int clock_gettime(clockid_t clock, struct timespec *now);
#    define MTL__CLOCK ((clockid_t)1)
#  endif
#endif

/* Seconds since some moment, for durations; by a clock that is never set, where the system shows one. */
static double mtl__seconds(void)
{
#if defined(MTL__CLOCK)
    struct timespec now;
    clock_gettime(MTL__CLOCK, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
#elif defined(MTL__FILES_POSIX)
    struct timeval now;
    gettimeofday(&now, NULL);
    return (double)now.tv_sec + 1e-6 * (double)now.tv_usec;
#elif defined(MTL__FILES_WIN32)
    LARGE_INTEGER now, rate;
    QueryPerformanceCounter(&now);
    QueryPerformanceFrequency(&rate);
    return (double)now.QuadPart / (double)rate.QuadPart;
#else
    return (double)clock() / (double)CLOCKS_PER_SEC;
#endif
}

/* ===========================================================================================================
   3  >>error      codes and texts; mtl_error with the offending name, number or byte offset
   ===========================================================================================================
   Invariant: a set error is never overwritten, so the first cause is what the caller reads.
   -------------------------------------------------------------------------------------------------------- */
#include <stdarg.h>

MTL_DEF void mtl_error_clear(mtl_error *err)
{
    if (err) {
        err->code = MTL_OK;
        err->name[0] = err->message[0] = '\0';
        err->position = -1;
    }
}

MTL_DEF const char *mtl_error_text(int code)
{
    switch (code) {
#define MTL__ERROR_CASE(code, text) case code: return text;
    MTL_ERROR_LIST(MTL__ERROR_CASE)
#undef MTL__ERROR_CASE
    default: return "unknown error";
    }
}

/* Public functions begin with this: the caller's error, or one of their own when the caller gave none (or
   cannot give any). */
MTL__INLINE mtl_error *mtl__error_given(mtl_error *err, mtl_error *own)
{
    if (err) return err;
    mtl_error_clear(own);
    return own;
}

MTL__INLINE int mtl__failed(const mtl_error *err) { return err->code != MTL_OK; }
/* mtl_error begins with an int, so that C++ takes `= {0}` for it. */
MTL__INLINE mtl_status mtl__status(const mtl_error *err) { return (mtl_status)err->code; }

/* NaN and infinity by bits: comparisons with NaN mean nothing under -ffast-math. */
MTL__INLINE int mtl__is_finite(mtl_real x)
{
#if MTL__REAL_IS_DOUBLE
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (bits >> 52 & 0x7ff) != 0x7ff;
#else
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (bits >> 23 & 0xff) != 0xff;
#endif
}
MTL__INLINE int mtl__is_nan(mtl_real x)
{
#if MTL__REAL_IS_DOUBLE
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (bits << 1) > ((uint64_t)0x7ff << 53);
#else
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (bits << 1) > ((uint32_t)0xff << 24);
#endif
}
MTL__INLINE int mtl__double_is_finite(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (bits >> 52 & 0x7ff) != 0x7ff;
}

/* Copies text into out[size], cut at whole UTF-8 characters. */
static void mtl__copy_text(char *out, size_t size, const char *text)
{
    size_t n = strlen(text);
    if (n >= size) {
        n = size - 1;
        while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80) n--;
    }
    memcpy(out, text, n);
    out[n] = '\0';
}

/* Writes an unsigned number's digits; returns how many. out[24]. */
static size_t mtl__digits(unsigned long long value, char *out)
{
    char reversed[24];
    size_t n = 0, i;
    do {
        reversed[n++] = (char)('0' + (int)(value % 10));
        value /= 10;
    } while (value);
    for (i = 0; i < n; i++) out[i] = reversed[n - 1 - i];
    out[n] = '\0';
    return n;
}

/* One conversion of mtl__format into piece[48]; text arguments are returned as they are. */
static const char *mtl__format_piece(char kind, va_list *arguments, char *piece)
{
    long long number;
    switch (kind) {
    case 's': return va_arg(*arguments, const char *);
    case 'z': mtl__digits(va_arg(*arguments, size_t), piece); return piece;
    case 'd':
    case 'l':
        number = kind == 'd' ? va_arg(*arguments, int) : va_arg(*arguments, long long);
        piece[0] = '-';
        mtl__digits(number < 0 ? 0ull - (unsigned long long)number : (unsigned long long)number,
                    piece + (number < 0));
        return piece;
    case 'g': mtl_text_from_number(va_arg(*arguments, double), piece); return piece;
    default: piece[0] = '%'; piece[1] = '\0'; return piece;
    }
}

/* A formatter that no locale touches: %s text, %d int, %z size_t, %l long long, %g double, %%. Cuts at
   size. */
static void mtl__format(char *out, size_t size, const char *format, va_list *arguments)
{
    size_t used = 0;
    char piece[48];
    for (; *format && used + 1 < size; format++) {
        if (*format != '%') {
            out[used++] = *format;
        } else {
            format++;
            mtl__copy_text(out + used, size - used, mtl__format_piece(*format, arguments, piece));
            used += strlen(out + used);
        }
    }
    out[used] = '\0';
}

/* Sets err unless it is set already, and returns the code that stands. name: what is at fault; position:
   where, or -1. */
static mtl_status mtl__fail(mtl_error *err, mtl_status code, const char *name, long long position,
                            const char *format, ...)
{
    va_list arguments;
    if (mtl__failed(err)) return mtl__status(err);
    err->code = (int)code;
    err->position = position;
    mtl__copy_text(err->name, sizeof err->name, name ? name : "");
    va_start(arguments, format);
    mtl__format(err->message, sizeof err->message, format, &arguments);
    va_end(arguments);
    return code;
}

MTL_DEF mtl_status mtl_error_set(mtl_error *err, int code, const char *name, long long position,
                                 const char *message)
{
    return mtl__fail(err, (mtl_status)code, name, position, "%s", message);
}

/* 1 when err is clear and `pointer` is not NULL; else err is set, to name what is missing. */
static int mtl__given(const void *pointer, const char *name, mtl_error *err)
{
    if (!pointer) mtl__fail(err, MTL_ERROR_ARGUMENT, name, -1, "%s is NULL", name);
    return !mtl__failed(err);
}

/* A caller's buffer must be aligned and hold `need` bytes. */
static mtl_status mtl__check_buffer(const void *buffer, size_t bytes, size_t need, const char *what,
                                    mtl_error *err)
{
    if (mtl__failed(err)) return mtl__status(err);
    if (buffer && bytes >= need && (uintptr_t)buffer % MTL__ALIGNMENT == 0) return MTL_OK;
    return mtl__fail(err, MTL_ERROR_BUFFER, "buffer", (long long)need,
                     "%s needs a buffer of %z bytes, aligned to %d; %z were given%s", what, need,
                         MTL__ALIGNMENT, bytes,
                     !buffer         ? " (buffer is NULL)"
                     : bytes >= need ? ", not aligned"
                                     : "");
}

static mtl_status mtl__fail_memory(mtl_error *err, const char *what, size_t bytes)
{
    return mtl__fail(err, MTL_ERROR_MEMORY, what, (long long)bytes, "out of memory: %s needs %z bytes", what,
                     bytes);
}

/* A text by format in out[size], for names. */
static char *mtl__print(char *out, size_t size, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    mtl__format(out, size, format, &arguments);
    va_end(arguments);
    return out;
}

/* ===========================================================================================================
   4  >>cpu        what the processor and the operating system support
   ===========================================================================================================
   An instruction set may be used when the processor has it (CPUID) *and* the system saves its registers on a
   change of task (XGETBV): an old kernel, or a virtual machine, may leave the second out. Asked anew each
   time, as nothing here may be kept in a global: callers ask once, when they create something, and keep the
   kernel table that they got. Source: Intel's Software Developer's Manual, volume 1, sections 14.3 and 15.2
   to 15.4.
   -------------------------------------------------------------------------------------------------------- */
#ifdef MTL__X86
typedef struct mtl__cpuid_answer {
    unsigned a, b, c, d;
} mtl__cpuid_answer;

static mtl__cpuid_answer mtl__cpuid(unsigned leaf, unsigned part)
{
    mtl__cpuid_answer r;
#ifdef _MSC_VER
    int answer[4];
    __cpuidex(answer, (int)leaf, (int)part);
    r.a = (unsigned)answer[0];
    r.b = (unsigned)answer[1];
    r.c = (unsigned)answer[2];
    r.d = (unsigned)answer[3];
#else
    __asm__ __volatile__("cpuid" : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d) : "a"(leaf), "c"(part));
#endif
    return r;
}

/* Which registers the system saves: bit 1 SSE, 2 AVX, 5 to 7 the masks and registers of AVX-512. */
static unsigned mtl__cpu_saved_registers(void)
{
#ifdef _MSC_VER
    return (unsigned)_xgetbv(0);
#else
    unsigned low, high;
    __asm__ __volatile__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
#endif
}

static int mtl__cpu_supports(int isa)
{
    const unsigned fma = 1u << 12, xsave = 1u << 27;                                  /* leaf 1, register c */
    /* leaf 7, register b: F DQ BW VL */
    const unsigned avx2 = 1u << 5, avx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
    const unsigned avx_saved = 0x06, avx512_saved = 0xe6;
    mtl__cpuid_answer basic, extended;
    unsigned saved;
#ifdef MTL__AVX512_EMULATED                                             /* tests: see >>dispatch */
    if (isa == MTL_ISA_AVX512) isa = MTL_ISA_AVX2;
#endif
    if (isa == MTL_ISA_SCALAR || isa == MTL_ISA_SSE2) return 1;         /* every 64-bit x86 has SSE2 */
    if (mtl__cpuid(0, 0).a < 7) return 0;
    basic = mtl__cpuid(1, 0);
    extended = mtl__cpuid(7, 0);
    if (!(basic.c & xsave) || !(basic.c & fma) || !(extended.b & avx2)) return 0;
    saved = mtl__cpu_saved_registers();
    if (isa == MTL_ISA_AVX2) return (saved & avx_saved) == avx_saved;
    return isa == MTL_ISA_AVX512 && (extended.b & avx512) == avx512 && (saved & avx512_saved) == avx512_saved;
}

/* AVX512-BF16: products of bfloat16 pairs. */
static int mtl__cpu_has_bf16(void)
{
    const unsigned bf16 = 1u << 5;                                      /* leaf 7, part 1, register a */
    if (!mtl__cpu_supports(MTL_ISA_AVX512)) return 0;
#ifdef MTL__AVX512_EMULATED
    return bf16 != 0;
#else
    /* part 0, register a: the last part there is */
    return mtl__cpuid(7, 0).a >= 1 && (mtl__cpuid(7, 1).a & bf16) != 0;
#endif
}
#elif defined(MTL__NEON)
/* Every 64-bit ARM has NEON. */
static int mtl__cpu_supports(int isa) { return isa == MTL_ISA_SCALAR || isa == MTL_ISA_NEON; }
static int mtl__cpu_has_bf16(void) { return 0; }
#else
static int mtl__cpu_supports(int isa) { return isa == MTL_ISA_SCALAR; }
static int mtl__cpu_has_bf16(void) { return 0; }
#endif

/* How this thread rounds and treats numbers below 2^-126, which many processors compute a hundred times
   slower. While the library computes it is always the same: round to nearest, such numbers are 0, no traps;
   so results do not depend on what the caller has set. Jobs see to it themselves, on whatever thread. What
   computes outside of jobs (a stream's step, losses, scales) stands between this and mtl__arithmetic_restore,
   which takes what this returned: what was set before. Source: Intel's manual, volume 1, section 10.2.3;
   ARM's, register FPCR. */
static uint64_t mtl__arithmetic_set(void)
{
#if defined(MTL__X86)
    const unsigned before = _mm_getcsr(), flush = 1u << 15, inputs_are_zero = 1u << 6, no_traps = 0x1f80;
    const unsigned wanted = flush | inputs_are_zero | no_traps;
    if ((before & ~0x3fu) != wanted) _mm_setcsr(wanted);    /* to write costs more than a small pass; the last
                                                               6 bits tell what happened */
    return before;
#elif defined(MTL__NEON) && defined(__GNUC__)
    uint64_t before;
    __asm__ __volatile__("mrs %0, fpcr" : "=r"(before));
    __asm__ __volatile__("msr fpcr, %0" : : "r"((uint64_t)1 << 24));
    return before;
#else
    return 0;                               /* without vectors, or in double: as it is */
#endif
}

static void mtl__arithmetic_restore(uint64_t before)
{
#if defined(MTL__X86)
    if (((unsigned)before ^ _mm_getcsr()) & ~0x3fu) _mm_setcsr((unsigned)before);
#elif defined(MTL__NEON) && defined(__GNUC__)
    __asm__ __volatile__("msr fpcr, %0" : : "r"(before));
#else
    (void)before;
#endif
}

/* ===========================================================================================================
   5  >>random     counter-based: a value depends on (seed, stream, index), never on thread or order
   ===========================================================================================================
   A 64-bit mixer (splitmix64's finaliser, Steele, Lea & Flood 2014, applied twice) over the three numbers. No
   state to carry or to save: resuming at an index needs the index alone.
   -------------------------------------------------------------------------------------------------------- */
MTL__INLINE uint64_t mtl__scramble(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* 64 random bits of (seed, stream, index). */
static uint64_t mtl__random_bits(uint64_t seed, uint64_t stream, uint64_t index)
{
    return mtl__scramble(mtl__scramble(seed * 0x9e3779b97f4a7c15u + stream) + (index + 1)
                         * 0x9e3779b97f4a7c15u);
}

/* Uniform in [0, 1): 53 bits. */
static double mtl__random_uniform(uint64_t seed, uint64_t stream, uint64_t index)
{
    return (double)(mtl__random_bits(seed, stream, index) >> 11) * (1.0 / 9007199254740992.0);
}

/* Standard normal by Box & Muller 1958; one value of the pair is used. */
static double mtl__random_normal(uint64_t seed, uint64_t stream, uint64_t index)
{
    double u = mtl__random_uniform(seed, stream, 2 * index),
        v = mtl__random_uniform(seed, stream, 2 * index + 1);
    return sqrt(-2.0 * log(1.0 - u)) * cos(6.283185307179586 * v);
}

/* Whole number in [0, count), count > 0; the bias for counts below 2^32 is under 2^-32. */
static size_t mtl__random_below(uint64_t seed, uint64_t stream, uint64_t index, size_t count)
{
    return (size_t)(mtl__random_uniform(seed, stream, index) * (double)count);
}

/* Fisher and Yates' shuffle of n indices. */
static void mtl__random_shuffle(size_t *items, size_t n, uint64_t seed, uint64_t stream)
{
    size_t i;
    for (i = n; i > 1; i--) {
        size_t j = mtl__random_below(seed, stream, i, i), held = items[i - 1];
        items[i - 1] = items[j];
        items[j] = held;
    }
}

/* ===========================================================================================================
   6  >>arena      bump allocation, mark and release, high-water mark, caller's buffer or malloc, fail-next
                   hook
   ===========================================================================================================
   A chain of chunks, newest first; a chunk of the caller's is the first and is never freed. A counting arena
   has no memory: its pushes return addresses in no chunk, so that the code that lays memory out also measures
   it.
       chunk:  [ header, 64 bytes ][ pushes, each rounded up to 64 ]
   `used` counts pushes alone, so a buffer of exactly high_water bytes holds what a counting arena measured.
   -------------------------------------------------------------------------------------------------------- */
typedef struct mtl__chunk {
    struct mtl__chunk *below;
    size_t size;                            /* bytes for pushes */
    size_t below_used;                      /* chunk_used of the chunk below, to go back to */
    unsigned char *memory;                  /* what the allocator returned; NULL: the caller's buffer */
    unsigned char *base;                    /* aligned start of the pushes */
} mtl__chunk;

MTL__INLINE size_t mtl__at_most(size_t n, size_t limit) { return n < limit ? n : limit; }
MTL__INLINE size_t mtl__round_up(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

/* a * b into *product; 0 when it does not fit. */
static int mtl__multiply(size_t a, size_t b, size_t *product)
{
    if (b && a > (size_t)-1 / 2 / b) return 0;
    *product = a * b;
    return 1;
}

static void *mtl__allocate(const mtl_allocator *allocator, size_t bytes)
{
    return allocator->allocate ? allocator->allocate(allocator->user, bytes) : MTL_MALLOC(bytes);
}

static void mtl__free(const mtl_allocator *allocator, void *memory)
{
    if (allocator->allocate) allocator->release(allocator->user, memory);
    else MTL_FREE(memory);
}

MTL_DEF void mtl_arena_init(mtl_arena *arena, void *buffer, size_t bytes, const mtl_allocator *allocator)
{
    memset(arena, 0, sizeof *arena);
    if (allocator) arena->allocator = *allocator;
    if (buffer) {
        size_t skip = (MTL__ALIGNMENT - (uintptr_t)buffer % MTL__ALIGNMENT) % MTL__ALIGNMENT;
        arena->base = (unsigned char *)buffer + skip;
        arena->chunk_size = bytes > skip ? bytes - skip : 0;
    } else {
        arena->grows = 1;
    }
}

/* An arena that only measures; `shadow` is set up to grow and must be destroyed by the caller. */
static void mtl__arena_init_counting(mtl_arena *arena, mtl_arena *shadow)
{
    memset(arena, 0, sizeof *arena);
    arena->counting = 1;
    arena->shadow = shadow;
    mtl_arena_init(shadow, NULL, 0, NULL);
}

static void mtl__arena_pop_chunk(mtl_arena *arena)
{
    mtl__chunk *chunk = (mtl__chunk *)arena->chunks, *below = chunk->below;
    arena->chunk_used = chunk->below_used;
    arena->base = below ? below->base : NULL;
    arena->chunk_size = below ? below->size : 0;
    arena->chunks = below;
    mtl__free(&arena->allocator, chunk->memory);
}

MTL_DEF void mtl_arena_destroy(mtl_arena *arena)
{
    while (arena->chunks) mtl__arena_pop_chunk(arena);
    memset(arena, 0, sizeof *arena);
}

/* Chunks double, so that a long run takes few; an arena that was measured once takes one. */
static int mtl__arena_grow(mtl_arena *arena, size_t bytes)
{
    size_t size = bytes, doubled = arena->chunk_size * 2;
    mtl__chunk *chunk;
    unsigned char *memory;
    if (size < 65536) size = 65536;
    if (size < doubled) size = doubled;
    if (size > (size_t)-1 / 2 - 4 * MTL__ALIGNMENT) return 0;
    memory = (unsigned char *)mtl__allocate(&arena->allocator, size + 3 * MTL__ALIGNMENT);
    if (!memory) return 0;
    chunk = (mtl__chunk *)(void *)(memory + (MTL__ALIGNMENT
                                             - (uintptr_t)memory % MTL__ALIGNMENT) % MTL__ALIGNMENT);
    chunk->below = (mtl__chunk *)arena->chunks;
    chunk->below_used = arena->chunk_used;
    chunk->size = size;
    chunk->memory = memory;
    chunk->base = (unsigned char *)chunk + MTL__ALIGNMENT;
    arena->chunks = chunk;
    arena->base = chunk->base;
    arena->chunk_size = size;
    arena->chunk_used = 0;
    return 1;
}

MTL_DEF void *mtl_arena_push(mtl_arena *arena, size_t bytes)
{
    unsigned char *memory;
    if (bytes > (size_t)-1 / 4) return NULL;
    bytes = mtl__round_up(bytes, MTL__ALIGNMENT);
    if (arena->fail_after > 0 && --arena->fail_after == 0) return NULL;
    if (arena->counting) {
        memory = (unsigned char *)(uintptr_t)MTL__ALIGNMENT;
    } else {
        if (bytes > arena->chunk_size - arena->chunk_used || !arena->base)
            if (!arena->grows || !mtl__arena_grow(arena, bytes)) return NULL;
        memory = arena->base + arena->chunk_used;
        arena->chunk_used += bytes;
    }
    arena->used += bytes;
    if (arena->used > arena->high_water) arena->high_water = arena->used;
    return memory;
}

MTL_DEF mtl_arena_mark mtl_arena_save(const mtl_arena *arena)
{
    mtl_arena_mark mark;
    mark.used = arena->used;
    mark.chunk_used = arena->chunk_used;
    mark.chunks = arena->chunks;
    return mark;
}

MTL_DEF void mtl_arena_release(mtl_arena *arena, mtl_arena_mark mark)
{
    while (arena->chunks != mark.chunks) mtl__arena_pop_chunk(arena);
    arena->used = mark.used;
    arena->chunk_used = mark.chunk_used;
}

MTL_DEF void mtl_arena_fail_next(mtl_arena *arena, long long count) { arena->fail_after = count; }

/* Empties the arena; one that had to chain chunks gets a single chunk of its high-water mark, so that a
   repeated run of the same size allocates no more. */
static void mtl__arena_reset(mtl_arena *arena)
{
    mtl__chunk *chunk = (mtl__chunk *)arena->chunks;
    if (arena->grows && chunk && chunk->below) {
        size_t need = arena->high_water;
        while (arena->chunks) mtl__arena_pop_chunk(arena);
        (void)mtl__arena_grow(arena, need);
    }
    arena->used = arena->chunk_used = 0;
}

/* Pushes and clears; sets err when memory is out. */
static void *mtl__arena_zero(mtl_arena *arena, size_t count, size_t size, const char *what, mtl_error *err)
{
    size_t bytes = 0;
    void *memory = NULL;
    if (mtl__failed(err)) return NULL;
    if (mtl__multiply(count, size, &bytes)) memory = mtl_arena_push(arena, bytes);
    if (!memory) mtl__fail_memory(err, what, bytes);
    else if (!arena->counting) memset(memory, 0, bytes);
    return memory;
}

/* A zeroed structure that is needed even while measuring: counted like a push, but then kept in the
   shadow. */
static void *mtl__arena_make(mtl_arena *arena, size_t count, size_t size, const char *what, mtl_error *err)
{
    void *memory = mtl__arena_zero(arena, count, size, what, err);
    if (memory && arena->counting) memory = mtl__arena_zero(arena->shadow, count, size, what, err);
    return memory;
}

/* A copy of a text, NULL for NULL. */
static const char *mtl__arena_text(mtl_arena *arena, const char *text, mtl_error *err)
{
    char *copy = text ? (char *)mtl__arena_make(arena, strlen(text) + 1, 1, "a name", err) : NULL;
    if (copy) memcpy(copy, text, strlen(text));
    return copy;
}

/* ===========================================================================================================
   7  >>threads    parallel-for: none, built-in pool, or the caller's own job system through one callback
   ===========================================================================================================
   Everything that runs in parallel is `count` jobs numbered 0 .. count-1. What a number means is fixed by the
   problem and never by the number of threads; jobs write disjoint memory; all compute alike
   (mtl__arithmetic_set). So results are the same bits for any scheduler.

   The pool hands out numbers through one 64-bit ticket, generation << 32 | next number. A worker claims a
   number by compare-and-swap; a claim that succeeds proves that the job and the count it read belong to that
   generation, because a generation ends only when all of its claimed numbers are done. So a worker that wakes
   late finds nothing to claim and nobody waits for it. Idle workers spin for 100 microseconds (steps of a
   training run follow one another sooner), then sleep. Whoever spins gives way to other threads after a few
   microseconds: with more threads than processors the one that is waited for may be waiting itself, for a
   processor.
   -------------------------------------------------------------------------------------------------------- */
#if !defined(MTL_NO_THREADS) && !defined(_WIN32) && (defined(__GNUC__) || defined(__clang__)) && \
    !defined(__TINYC__)
#  define MTL__POOL 1
#else
#  define MTL__POOL 0           /* without a pool, `threads` is 1; a scheduler of the caller's works
                                   everywhere */
#endif

#if MTL__POOL
typedef struct mtl__pool {
    mtl_scheduler scheduler;                /* its user is this pool */
    uint64_t ticket;                        /* atomic */
    uint32_t count;                         /* numbers of this generation */
    mtl_job job;
    void *context;
    char apart[MTL__ALIGNMENT];             /* counting what is done does not disturb those who claim */
    uint32_t done;                          /* atomic: numbers finished */
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    int sleepers, stop;                     /* atomic */
    size_t worker_count;
    pthread_t workers[1];                   /* [worker_count] */
} mtl__pool;

MTL__INLINE void mtl__pause(void)
{
#if defined(MTL__X86)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

/* Claims and runs numbers of the current generation until none is left. Returns the ticket that it last
   saw. */
static uint64_t mtl__pool_work(mtl__pool *pool)
{
    uint64_t ticket = __atomic_load_n(&pool->ticket, __ATOMIC_ACQUIRE);
    for (;;) {
        mtl_job job = __atomic_load_n(&pool->job, __ATOMIC_RELAXED);
        void *context = __atomic_load_n(&pool->context, __ATOMIC_RELAXED);
        uint32_t count = __atomic_load_n(&pool->count, __ATOMIC_RELAXED), number = (uint32_t)ticket;
        if (number >= count) {
            uint64_t again = __atomic_load_n(&pool->ticket, __ATOMIC_ACQUIRE);
            if (again == ticket) return ticket;
            ticket = again;
        } else if (__atomic_compare_exchange_n(&pool->ticket, &ticket, ticket + 1, 0, __ATOMIC_ACQ_REL,
                                               __ATOMIC_ACQUIRE)) {
            job(context, number);
            __atomic_add_fetch(&pool->done, 1, __ATOMIC_RELEASE);
            ticket++;
        }
    }
}

enum { MTL__POOL_SPINS = 256 };             /* pauses before giving way: 3 to 10 microseconds */

/* Waits for a ticket other than `seen`: spins, then sleeps. Returns 0 when the pool is being destroyed. */
static int mtl__pool_wait(mtl__pool *pool, uint64_t seen)
{
    double start = mtl__seconds();
    int i, stop;
    do {
        for (i = 0; i < MTL__POOL_SPINS; i++) {
            if (__atomic_load_n(&pool->ticket, __ATOMIC_ACQUIRE) != seen) return 1;
            mtl__pause();
        }
        sched_yield();
    } while (mtl__seconds() - start < 1e-4);
    pthread_mutex_lock(&pool->mutex);
    __atomic_add_fetch(&pool->sleepers, 1, __ATOMIC_SEQ_CST);
    while (!(stop = __atomic_load_n(&pool->stop, __ATOMIC_SEQ_CST)) &&
           __atomic_load_n(&pool->ticket, __ATOMIC_SEQ_CST) == seen)
        pthread_cond_wait(&pool->wake, &pool->mutex);
    __atomic_sub_fetch(&pool->sleepers, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&pool->mutex);
    return !stop;
}

static void *mtl__pool_worker(void *user)
{
    mtl__pool *pool = (mtl__pool *)user;
    uint64_t seen = 0;
    while (mtl__pool_wait(pool, seen)) seen = mtl__pool_work(pool);
    return NULL;
}

static void mtl__pool_wake(mtl__pool *pool)
{
    if (__atomic_load_n(&pool->sleepers, __ATOMIC_SEQ_CST)) {
        pthread_mutex_lock(&pool->mutex);
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->mutex);
    }
}

static void mtl__pool_for(void *user, size_t count, mtl_job job, void *context)
{
    mtl__pool *pool = (mtl__pool *)user;
    uint64_t generation = (__atomic_load_n(&pool->ticket, __ATOMIC_RELAXED) >> 32) + 1;
    unsigned spins = 0;
    MTL__ASSERT(count < 0xffffffffu);
    /* nothing to claim while this changes */
    __atomic_store_n(&pool->ticket, generation << 32 | 0xffffffffu, __ATOMIC_SEQ_CST);
    __atomic_store_n(&pool->job, job, __ATOMIC_RELAXED);
    __atomic_store_n(&pool->context, context, __ATOMIC_RELAXED);
    __atomic_store_n(&pool->count, (uint32_t)count, __ATOMIC_RELAXED);
    __atomic_store_n(&pool->done, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&pool->ticket, (generation + 1) << 32, __ATOMIC_SEQ_CST);
    mtl__pool_wake(pool);
    (void)mtl__pool_work(pool);
    while (__atomic_load_n(&pool->done, __ATOMIC_ACQUIRE) != (uint32_t)count) {
        if (++spins % MTL__POOL_SPINS) mtl__pause();
        else sched_yield();
    }
}

static void mtl__pool_destroy(mtl__pool *pool)
{
    size_t i;
    if (!pool) return;
    pthread_mutex_lock(&pool->mutex);
    __atomic_store_n(&pool->stop, 1, __ATOMIC_SEQ_CST);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
    for (i = 0; i < pool->worker_count; i++) pthread_join(pool->workers[i], NULL);
    pthread_mutex_destroy(&pool->mutex);
    pthread_cond_destroy(&pool->wake);
}

/* A pool in `arena`: the caller's thread and threads - 1 workers (fewer when the system gives no more). */
static mtl__pool *mtl__pool_create(mtl_arena *arena, int threads, mtl_error *err)
{
    size_t wanted = (size_t)threads - 1;
    mtl__pool *pool = (mtl__pool *)mtl__arena_zero(arena, 1, sizeof *pool + wanted * sizeof(pthread_t),
                                                   "the thread pool", err);
    if (!pool || arena->counting) return NULL;
    pool->scheduler.user = pool;
    pool->scheduler.parallel_for = mtl__pool_for;
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->wake, NULL);
    while (pool->worker_count < wanted
           && !pthread_create(&pool->workers[pool->worker_count], NULL, mtl__pool_worker, pool))
        pool->worker_count++;
    pool->scheduler.threads = pool->worker_count + 1;
    return pool;
}
static const mtl_scheduler *mtl__pool_scheduler(const mtl__pool *pool) { return pool
    ? &pool->scheduler : NULL; }
/* Stands for the scheduler of a pool in a dry run, which has no pool: it runs nothing, but measures what
   threads need. */
static const mtl_scheduler *mtl__pool_dry(void)
{
    static const mtl_scheduler dry = { NULL, NULL, 0 };
    return &dry;
}
#else
typedef struct mtl__pool { int none; } mtl__pool;
static void mtl__pool_destroy(mtl__pool *pool) { (void)pool; }
static mtl__pool *mtl__pool_create(mtl_arena *arena, int threads, mtl_error *err)
{
    (void)arena; (void)threads; (void)err;
    return NULL;
}
static const mtl_scheduler *mtl__pool_scheduler(const mtl__pool *pool) { (void)pool; return NULL; }
static const mtl_scheduler *mtl__pool_dry(void) { return NULL; }
#endif

/* A job with the arithmetic that all of them share, on whatever thread the scheduler runs it; that thread's
   own comes back after. */
typedef struct mtl__shielded { mtl_job job; void *context; } mtl__shielded;
static void mtl__shielded_job(void *context, size_t i)
{
    const mtl__shielded *s = (const mtl__shielded *)context;
    const uint64_t before = mtl__arithmetic_set();
    s->job(s->context, i);
    mtl__arithmetic_restore(before);
}

/* Runs job(context, 0 .. count-1) by the scheduler, or here and now when it is NULL. */
static void mtl__parallel_for(const mtl_scheduler *scheduler, size_t count, mtl_job job, void *context)
{
    mtl__shielded shielded;
    size_t i;
    shielded.job = job;
    shielded.context = context;
    if (scheduler && count > 1)
        scheduler->parallel_for(scheduler->user, count, mtl__shielded_job, &shielded);
    else
        for (i = 0; i < count; i++) mtl__shielded_job(&shielded, i);
}

/* ===========================================================================================================
   8  >>kernels    template, read again once per ISA: vectors, exp/tanh/sigmoid, products, element-wise cells,
                   softmax, Adam
   ===========================================================================================================
   What kernels are given. The template further down is read once per instruction set; these types are shared.

   Layouts. Rows are row-major with a stride of at least their width; what stands between width and stride is
   never read into a sum and never written. A *gate block* holds 16 units: gate values of all rows are stored
   as
       z[block][row][gate][16],  block = unit / 16
   so that the gates of one unit lie one cache line apart and a block of dz is an operand of the weight
   product as it stands. Units are padded to a multiple of 16; backward cells write zeros into the padding of
   dz.

   Packed weights (canonical W is PyTorch's [gates*units][inputs], row-major):
       forward   [block][gate][input][16 units]              B operand of  z  = x  . W^T
       backward  [input block][block][gate][16 units][16 inputs]  B operand of  dx = dz . W
   Padding units and inputs of packed weights are zero.

   Pairs. A product may run on bfloat16 numbers, which are the upper halves of floats. Its operands then are
   32-bit *pairs*, neighbours in k, the first in the lower half; a pair stands where a real stands otherwise,
   and k counts pairs:
       forward   [block][gate][input/2][16 units]                        pairs of inputs 2i, 2i+1; of an odd
                                                                         number the last with 0
       backward  [input block][block][gate][8 pairs of units][16 inputs] pairs of units 2u, 2u+1
   Weights are rounded (to nearest even) when they are packed, the left operand on its way into a product, by
   the kernel that multiplies; sums, and all that is no product, stay float. `pairs` says so in what a kernel
   is given; rows x, h, dz are floats always.

   Who may be split among threads, and where, so that no bit of a result depends on it:
       product_forward, product_backward, softmax,
       cross_entropy, dropout                                ranges of rows that begin at multiples of
                                                             MTL__FINE_ROWS
       product_weights                                       any ranges of units
       cell_forward, cell_backward                           ranges of sequences that begin at multiples of
                                                             MTL__SEQUENCES
   -------------------------------------------------------------------------------------------------------- */
enum {
    MTL__BLOCK = 16,                            /* units per column block, for every instruction set */
    MTL__SEQUENCES = 16,                        /* sequences that a cell works on at once; fixed, never by
                                                   thread count */
    MTL__ROWS = 96,                             /* rows that a product works on at once: full tiles of 6, 4 or
                                                   3; fixed too, .. */
    MTL__FINE_ROWS = MTL__ROWS / 4              /* .. or a multiple of this, full tiles too; what is left is a
                                                   product of its own */
};

/* z = x . W^T + bias, or z += ...   Work is split over rows. */
typedef struct mtl__product_forward {
    size_t gates, units, inputs;                /* G, H, I: W is [G*H][I] */
    const mtl_real *x; size_t x_stride;         /* [rows][I] */
    const mtl_real *packed;                     /* forward packing */
    const mtl_real *bias;                       /* [block][gate][16], padding zero; NULL: none */
    mtl_real *z; size_t z_block, z_row;         /* element (row, unit u, gate g) is z[(u/16)*z_block +
                                                   row*z_row + g*16 + u%16] */
    int exact;                                  /* 1 (only G = 1): columns past `units` are not written (z is
                                                   a row-major matrix: z_block = 16, z_row = its stride); 0:
                                                   whole blocks are written */
    int accumulate;                             /* 1: add to what z holds (bias then is ignored) */
    int pairs;                                  /* 1: multiply in bfloat16, `packed` holds pairs. The same in
                                                   the structures below */
} mtl__product_forward;

/* dx = dz . W, or dx += ...   Work is split over rows. dz holds `gates` consecutive 16-groups per row and
                               block. */
typedef struct mtl__product_backward {
    size_t gates, units, inputs;
    const mtl_real *dz; size_t dz_block, dz_row;
    int exact;                                  /* 1 (only G = 1): dz past `units` in a row must not be read
                                                   (row-major dz) */
    const mtl_real *packed;                     /* backward packing, gates in the order in which dz holds
                                                   them */
    mtl_real *dx; size_t dx_stride;             /* [rows][I]: exactly I columns are written */
    int accumulate;
    int pairs;
} mtl__product_backward;

/* dW[order[g]*H + u][i] (+)= sum over rows of dz[row][u][g] * x[row'][i].   Work is split over gate blocks
                                                                             (u/16) and
   over panels of inputs; the sum over rows always runs in one order. row' = row, or source[row]: >= 0 a row
   of x, < 0 row ~source[row] of x0 (a zero row if x0 is NULL). */
typedef struct mtl__product_weights {
    size_t gates, units, inputs, rows;
    const mtl_real *dz; size_t dz_block, dz_row;
    int exact;                                  /* as above */
    const mtl_real *x; size_t x_stride;
    const mtl_real *x0; size_t x0_stride;
    const int *source;                          /* [rows] or NULL */
    const int *order;                           /* [gates]: which gate of dW slot g is; NULL: its own
                                                   number */
    mtl_real *dw;                               /* canonical [gates'*H][I], row stride exactly I */
    int accumulate;
    int pairs;                                  /* 1: pairs of rows 2n, 2n+1, both operands rounded by the
                                                   kernel */
} mtl__product_weights;

/* Rows in time: step t has rows[t] rows (never increasing), the first at packed row offset[t]; row
   offset[t]+b belongs to sequence b (sequences sorted by falling length). */
typedef struct mtl__steps {
    size_t steps;
    const size_t *rows, *offset;
} mtl__steps;

/* What sets a cell apart, but for its arithmetic. Gates are counted in the order of files, PyTorch's: LSTM
   i f g o, GRU r z n, RNN one. */
typedef struct mtl__cell_kind {
    const char *name;
    int cell, reset;                            /* MTL_CELL_*; which MTL_RESET_* of it, 0: any */
    size_t gates, slots;                        /* G; S, places for a gate's gradient in a row of dz */
    int order[4];                               /* [S] whose; slots 0 .. G-1 are the input product's */
    size_t hidden_slot, joint;                  /* slots from here on are the product's with h, gates 0 ..
                                                   joint-1; the other gates, apart, multiply r*h */
    size_t merged;                              /* gates 0 .. merged-1 add b_hh to b_ih; others to W_hh h */
    int has_c, carries;                         /* has a cell state; the element-wise part leaves something
                                                   in the carry dh, to which the product adds */
    int forget;                                 /* the forget gate, 0: none */
    int keeps_extra;                            /* leaves a number for backward in extra */
    size_t single_extra;                        /* scratch of a single step, reals for each unit */
} mtl__cell_kind;

/* A row for each cell; its functions in the template are named after it: mtl__lstm_step, mtl__lstm_step_back,
   mtl__lstm_single. extra: LSTM tanh(c); GRU W_hn h + b_hn, or with the reset before the product r*h. Slots
   of dz: LSTM i f g o. GRU n r z and n*r (the gradient of W_hn h + b_hn), so that the gates of the input
   product (n r z) and of the hidden one (r z n*r) are neighbours; with the reset before n r z.
   The last eight columns: hidden_slot, joint, merged; has_c, carries, forget; keeps_extra, single_extra. */
#define MTL__CELL_KINDS(X) \
    /* NAME      name    cell           reset             G  S  order */ \
    X(rnn,       "rnn",  MTL_CELL_RNN,  0,                1, 1, { 0, 0, 0, 0 }, 0, 1, 1,   0, 0, 0,   0, 0) \
    X(gru,       "gru",  MTL_CELL_GRU,  MTL_RESET_AFTER,  3, 4, { 2, 0, 1, 2 }, 1, 3, 2,   0, 1, 0,   1, 3) \
    X(gru_reset, "gru",  MTL_CELL_GRU,  MTL_RESET_BEFORE, 3, 3, { 2, 0, 1, 0 }, 1, 2, 3,   0, 1, 0,   1, 1) \
    X(lstm,      "lstm", MTL_CELL_LSTM, 0,                4, 4, { 0, 1, 2, 3 }, 0, 4, 4,   1, 0, 1,   1, 0)
#define MTL__CELL_KIND(functions, ...) { __VA_ARGS__ },
static const mtl__cell_kind mtl__cell_kinds[] = { MTL__CELL_KINDS(MTL__CELL_KIND) };

/* Where a gate stands in a row of z and, with D, its gradient in a row of dz (LSTM: the same places). U is
   PyTorch's z; M is what r multiplies, W_hn h + b_hn. */
enum {
    MTL__LSTM_I = 0, MTL__LSTM_F = MTL__BLOCK, MTL__LSTM_G = 2 * MTL__BLOCK, MTL__LSTM_O = 3 * MTL__BLOCK,
    MTL__GRU_R = 0, MTL__GRU_U = MTL__BLOCK, MTL__GRU_N = 2 * MTL__BLOCK,
    MTL__GRU_DN = 0, MTL__GRU_DR = MTL__BLOCK, MTL__GRU_DU = 2 * MTL__BLOCK, MTL__GRU_DM = 3 * MTL__BLOCK
};

/* One recurrent layer in one direction: what its forward and backward loops over time share. */
typedef struct mtl__cell_pass {
    const mtl__cell_kind *kind;                 /* a row of mtl__cell_kinds */
    int activation;                             /* RNN: MTL_ACTIVATION_TANH, _RELU, _SIGMOID */
    int reverse;                                /* walk t from its end to 0 */
    int keep;                                   /* training: leave in z, c and extra what backward needs */
    int pairs;                                  /* 1: products in bfloat16, packed weights hold pairs */
    mtl_real *rounded; size_t rounded_row;      /* pairs: [B][rounded_row] scratch by sequence; rounded_row =
                                                   padded H / 2 times gates */
    size_t units;
    const mtl__steps *time;
    size_t begin, end;                          /* steps [begin, end) are walked; end 0: all */
    size_t z_first, dz_first;                   /* packed row that the first row of z, and of dz, is of */
    /* forward */
    mtl_real *z;
    size_t z_block; /* [block][row][G][16], row stride G*16. In: input product with every bias that is
                                                   outside the reset. Out (keep): activated gates (RNN:
                                                   nothing to keep, y is the state) */
    const mtl_real *same; size_t same_block;    /* not NULL: input products are here, [block][..][G][16], and
                                                   not in z; */
    const int *same_row;                        /* .. that of packed row n in row same_row[n] */
    const mtl_real *packed;                     /* W_hh of the joint gates, forward packing */
    const mtl_real *packed_n;                   /* W_hh of the others (GRU, reset before: W_hn) */
    const mtl_real *bias_n;                     /* [block][16], b_hh that is not merged: b_hn */
    mtl_real *y; size_t y_stride;               /* [N][H] hidden states out; exactly H columns are written */
    mtl_real *c; size_t c_stride;               /* LSTM cell states, stride = padded H: keep: [N][..] by
                                                   packed row; else [B][..] by sequence, updated in place */
    mtl_real *extra;                            /* keep only, [N][c_stride] by packed row */
    const mtl_real *h0; size_t h0_stride;       /* [B][H] initial states by sequence, NULL: zeros */
    const mtl_real *c0; size_t c0_stride;
    mtl_real *scratch;                          /* not all gates joint: [B][padded H], r*h when !keep, and its
                                                   gradient */
    /* backward */
    const mtl_real *dy; size_t dy_stride;       /* [N][H] gradient of y, NULL: zero */
    mtl_real *dz;
    size_t dz_block;                            /* [block][row][S][16], row stride S*16 */
    const mtl_real *packed_t, *packed_n_t;      /* as packed and packed_n, backward packing */
    mtl_real *dh; size_t dh_stride;             /* [B][padded H] by sequence. In: gradient of the last state,
                                                   or zeros. Out: of h0 */
    mtl_real *dc;                               /* LSTM, like dh with the same stride: in: gradient of the
                                                   last cell state; out: of c0 */
    int want_dh0;                               /* 0: dh need not be finished for rows at their first step
                                                   (saves a product) */
} mtl__cell_pass;

/* One step of one sequence. Arrays are of whole blocks. */
typedef struct mtl__cell_single {
    const mtl__cell_kind *kind;                 /* as in mtl__cell_pass, */
    int activation;                             /* .. this too */
    size_t units, inputs;
    const mtl_real *packed_input, *bias;        /* W_ih, forward packing; [block][gate][16] or NULL */
    const mtl_real *packed, *packed_n, *bias_n; /* as in mtl__cell_pass */
    mtl_real *h, *c;                            /* states, replaced */
    mtl_real *z;                                /* [block][gate][16] scratch */
    mtl_real *extra;                            /* scratch: GRU W_hh h as [block][3][16], or with the reset
                                                   before r*h as [block][16] */
} mtl__cell_single;

/* Rows of logits. */
typedef struct mtl__softmax {
    size_t rows, classes;
    const mtl_real *x; size_t x_stride;
    mtl_real *p; size_t p_stride;               /* softmax(x); may be x itself */
} mtl__softmax;

/* Cross-entropy of rows of logits against labels or distributions (>>losses has the equations). Forward keeps
   `saved` for backward, which computes the probabilities anew: that is cheaper than to write and read an
   array of them. Row m's target is number items[m]; its coefficients a_c = w_c ((1 - s) q_c + s / C), q = 1
   at a label. */
typedef struct mtl__cross_entropy {
    size_t classes;
    const mtl_real *x; size_t x_stride;         /* [rows][C] logits */
    const int *items;                           /* [rows] */
    const int *labels;                          /* by item; or */
    const mtl_real *q;                          /* distributions, [item][C] */
    const mtl_real *w;                          /* [C] class weights; NULL: all 1 */
    mtl_real smoothing;                         /* s */
    mtl_real *saved;                            /* [rows][3] largest x; sum of exp(x - largest); sum of a */
    double *loss;                               /* [rows]; forward */
    mtl_real *dx; size_t dx_stride;             /* backward: dx (+)= factor ((sum a) p - a) */
    mtl_real factor;
    int accumulate;
} mtl__cross_entropy;

/* Inverted dropout: y (+)= x * mask / keep, mask by (seed, stream, row key, column): made anew in backward,
   never stored. The same bits for every instruction set. */
typedef struct mtl__dropout {
    size_t rows, width;
    const mtl_real *x; size_t x_stride;
    mtl_real *y; size_t y_stride;               /* may be x when not accumulating */
    const int *key;                             /* [rows], NULL: the row number (row_begin counted) */
    unsigned long long seed, stream;
    mtl_real rate;                              /* probability of dropping, 0 <= rate < 1 */
    int accumulate;
} mtl__dropout;

/* One optimiser step on n contiguous parameters. g is the gradient; g' = scale*g + l2*p + l1*sign(p) is what
   the rule sees (scale carries clipping by norm). limit > 0 clips each scale*g to [-limit, limit] before l1,
   l2 are added. Then p *= 1 - lr*decay (decoupled decay), then the rule.
   SGD      m = momentum*m + g' (first step: m = g'); p -= lr * (nesterov ? g' + momentum*m : m); without
            momentum p -= lr*g'
   RMSPROP  v = beta2*v + (1-beta2)*g'^2; p -= lr * g' / (sqrt(v) + epsilon); with momentum: m = momentum*m +
   g'/(sqrt(v)+epsilon), p -= lr*m
   ADAM     m = beta1*m + (1-beta1)*g'; v = beta2*v + (1-beta2)*g'^2; p -= lr * (m/correction1) /
            (sqrt(v/correction2) + epsilon)
   as torch.optim computes them. */
typedef struct mtl__update {
    int rule;                                   /* MTL_OPTIMIZER_SGD, _RMSPROP, _ADAM or _ADAMW (which is ADAM
                                                   with decay) */
    int nesterov, first;                        /* first: this parameter's first step (SGD momentum) */
    /* double: 1 - 0.999f is off by 5e-5 in float */
    double lr, momentum, beta1, beta2, epsilon, correction1, correction2;
    double scale, limit, l2, l1, decay;         /* scale 1: as it is; limit, l2, l1, decay 0: none */
} mtl__update;

/* Kernels that are NULL in a table without pairs; the products there take no pairs either. */
#define MTL__PAIRS_KERNEL_LIST(X) \
    X(void, pack_pairs_forward, (size_t gates, size_t units, size_t inputs, const mtl_real *w, \
      mtl_real *packed)) \
    X(void, pack_pairs_backward, (size_t gates, size_t units, size_t inputs, const mtl_real *w, \
      const int *order, mtl_real *packed))

/* Every kernel of a table: return type, name, arguments. Row and block ranges are half open. */
#define MTL__KERNEL_LIST(X) \
    X(void, pack_forward, (size_t gates, size_t units, size_t inputs, const mtl_real *w, mtl_real *packed)) \
    X(void, pack_backward, (size_t gates, size_t units, size_t inputs, const mtl_real *w, const int *order, \
      mtl_real *packed)) \
    X(void, product_forward, (const mtl__product_forward *p, size_t row_begin, size_t row_end)) \
    X(void, product_backward, (const mtl__product_backward *p, size_t row_begin, size_t row_end)) \
    X(void, product_weights, (const mtl__product_weights *p, size_t unit_begin, size_t unit_end, \
      mtl_real *scratch)) \
    X(void, column_sums, (const mtl__product_weights *p, mtl_real *db)) \
    X(void, cell_forward, (const mtl__cell_pass *p, size_t first, size_t count)) \
    X(void, cell_backward, (const mtl__cell_pass *p, size_t first, size_t count)) \
    X(void, cell_single, (const mtl__cell_single *p, const mtl_real *x)) \
    X(void, activate, (int activation, size_t n, const mtl_real *x, mtl_real *y)) \
    X(void, activate_backward, (int activation, size_t n, const mtl_real *y, const mtl_real *dy, \
      mtl_real *dx)) \
    X(void, exponential, (size_t n, const mtl_real *x, mtl_real *y)) \
    X(void, softmax, (const mtl__softmax *p, size_t row_begin, size_t row_end)) \
    X(void, cross_entropy_forward, (const mtl__cross_entropy *p, size_t row_begin, size_t row_end)) \
    X(void, cross_entropy_backward, (const mtl__cross_entropy *p, size_t row_begin, size_t row_end)) \
    X(void, dropout, (const mtl__dropout *p, size_t row_begin, size_t row_end)) \
    X(void, update, (const mtl__update *u, size_t n, mtl_real *p, const mtl_real *g, mtl_real *m, \
      mtl_real *v)) \
    X(double, sum_squares, (size_t n, const mtl_real *x)) \
    X(void, dots, (size_t n, const mtl_real *x, const mtl_real *const *y, double *sums)) \
    X(void, scale, (size_t n, mtl_real a, mtl_real *x)) \
    X(void, add_scaled, (size_t n, mtl_real a, const mtl_real *x, mtl_real *y)) \
    X(void, approach, (size_t n, mtl_real share, const mtl_real *x, mtl_real *y)) \
    X(void, add_rows, (size_t n, size_t count, const int *rows, mtl_real a, const mtl_real *x, \
      size_t stride, int add, mtl_real *y)) \
    X(void, multiply_add, (size_t n, const mtl_real *a, const mtl_real *b, mtl_real *y)) \
    X(void, maximum, (size_t n, const mtl_real *x, mtl_real *y)) \
    X(void, maximum_backward, (size_t n, const mtl_real *x, const mtl_real *y, mtl_real *left, \
      int accumulate, mtl_real *dx))

typedef struct mtl__kernels {
    int isa;                                    /* MTL_ISA_* */
    const char *name;
#define MTL__KERNEL_FIELD(result, name, arguments) result (*name) arguments;
    MTL__KERNEL_LIST(MTL__KERNEL_FIELD)
    MTL__PAIRS_KERNEL_LIST(MTL__KERNEL_FIELD)
#undef MTL__KERNEL_FIELD
} mtl__kernels;

/* ---- what the stamps share: functions without vectors -------------------------------------------------- */

MTL__INLINE size_t mtl__blocks(size_t units) { return (units + MTL__BLOCK - 1) / MTL__BLOCK; }
MTL__INLINE size_t mtl__padded(size_t width) { return mtl__blocks(width) * MTL__BLOCK; }

enum {
    MTL__PANEL = 64,                            /* columns of dW that a unit of work of product_weights
                                                   covers, as 4 blocks of 16 */
    MTL__PANEL_ROWS = 256,                      /* rows of x that are packed at a time: a panel of them is 64
                                                   KB */
    MTL__PAIRS_DEPTH = 128                      /* pairs of k in one go, where the left operand of 96 rows is
                                                   rounded to the stack: 48 KB */
};

/* Columns of a panel: of pairs it holds twice as many in the same memory. */
MTL__INLINE size_t mtl__panel_width(const mtl__product_weights *p)
{
    return p->pairs ? 2 * MTL__PANEL : MTL__PANEL;
}

/* Units of work of product_weights are numbered panel * blocks + block, so that a range of them packs each
   panel of x once. */
MTL__INLINE size_t mtl__weight_units(const mtl__product_weights *p)
{
    const size_t panel = mtl__panel_width(p);
    return (p->inputs + panel - 1) / panel * mtl__blocks(p->units);
}

/* 1: rows of dz are a page (4 KB) or more apart, so that blocks of it are copied together. */
MTL__INLINE int mtl__weights_far(const mtl__product_weights *p) { return p->dz_row >= 1024; }

/* Reals of scratch that one call of product_weights needs: a panel of x, and a gate of a block of dz where
   that is rounded or copied. */
MTL__INLINE size_t mtl__weight_scratch(const mtl__product_weights *p)
{
    const size_t rows = mtl__at_most(p->rows, MTL__PANEL_ROWS);
    if (p->pairs) return (rows + 1) / 2 * (2 * MTL__PANEL + MTL__BLOCK);
    return rows * (MTL__PANEL + (mtl__weights_far(p) ? (size_t)MTL__BLOCK : 0));
}

/* Rows that a product takes at once where `left` are left: no sum then depends on where ranges of rows
   begin. */
MTL__INLINE size_t mtl__product_rows(size_t left)
{
    const size_t rows = mtl__at_most(left, MTL__ROWS);
    return rows > MTL__FINE_ROWS ? rows - rows % MTL__FINE_ROWS : rows;
}

/* What stands in for states and gradients that are not there, with a stride of 0. */
static const mtl_real mtl__zeros[MTL__BLOCK * 4] = { 0 };
static const mtl_real mtl__ones[MTL__BLOCK] = { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 };

/* One tile of a product: c[row][column] = start + sum over k of a[row][k] * b[k][column], for a few rows and
   blocks of 16 columns. k runs through `chunks` runs of `length`; b goes on without a gap from one run to the
   next. */
enum { MTL__START_ZERO, MTL__START_ADD, MTL__START_BIAS };
enum { MTL__TILE_FETCHES = 3 };                 /* rows from which on a tile fetches ahead */
typedef struct mtl__tile {
    size_t chunks, length;
    const mtl_real *a; size_t a_row, a_chunk;   /* element (row, k) of a run: a[row*a_row + k], or transposed
                                                   a[k*a_row + row] */
    int pairs; size_t a_step;                   /* 1: elements of a and b are pairs, element (row, k) is
                                                   a[row*a_row + k*a_step] */
    const mtl_real *b; size_t b_block;          /* element (k, column block s, j): b[s*b_block + k*16 + j] */
    mtl_real *c; size_t c_row, c_block;         /* element (row, column block s, j): c[row*c_row + s*c_block +
                                                   j] */
    const mtl_real *bias;                       /* [column block][16] for START_BIAS */
    int start;                                  /* START_ADD: from what c holds */
    const mtl_real *next; size_t next_step;     /* tiles of several rows fetch next[s*b_block + k*next_step]
                                                   for every k: b, later on */
} mtl__tile;

/* Rows of one step of a cell pass that take their previous state from the same place. */
typedef struct mtl__cell_rows {
    size_t rows, row, sequence;                 /* how many; packed row and sequence of the first */
    int linked;                                 /* 1: the state before is in y and c; 0: these sequences start
                                                   here */
    const mtl_real *h; size_t h_stride;         /* hidden states before, [rows][H]; NULL: zeros */
    const mtl_real *c; size_t c_stride;         /* LSTM cell states before; mtl__zeros with stride 0 if there
                                                   are none */
    size_t begin, end;                          /* units of the step that are worked on */
} mtl__cell_rows;

/* Rows of step t among the sequences [first, first + count): at most one part with a state before and one
   part that starts here (both in the same step only when walking in reverse, where rows join while t falls).
   Returns the number of parts. */
MTL__INLINE int mtl__cell_parts(const mtl__cell_pass *p, size_t t, size_t first, size_t count,
                               mtl__cell_rows part[2])
{
    const mtl__steps *time = p->time;
    const size_t before = p->reverse ? t + 1 : t - 1;
    const size_t ready = (p->reverse ? before < time->steps : t > 0) ? time->rows[before] : 0;
    const size_t end = first + count, last = time->rows[t] < end ? time->rows[t] : end;
    const size_t joint = ready < first ? first : ready < last ? ready : last;
    int parts = 0;
    part[0].begin = part[1].begin = 0;
    part[0].end = part[1].end = p->units;
    if (first < joint) {
        mtl__cell_rows *r = &part[parts++];
        r->rows = joint - first;
        r->row = time->offset[t] + first;
        r->sequence = first;
        r->linked = 1;
        r->h = p->y + (time->offset[before] + first) * p->y_stride;
        r->h_stride = p->y_stride;
        r->c = p->c ? p->c + (p->keep ? time->offset[before] + first : first) * p->c_stride : mtl__zeros;
        r->c_stride = p->c ? p->c_stride : 0;
    }
    if (joint < last) {
        mtl__cell_rows *r = &part[parts++];
        r->rows = last - joint;
        r->row = time->offset[t] + joint;
        r->sequence = joint;
        r->linked = 0;
        r->h = p->h0 ? p->h0 + joint * p->h0_stride : NULL;
        r->h_stride = p->h0 ? p->h0_stride : 0;
        r->c = p->c0 ? p->c0 + joint * p->c0_stride : mtl__zeros;
        r->c_stride = p->c0 ? p->c0_stride : 0;
    }
    return parts;
}

/* What the element-wise part of a cell gets: one block of 16 units of at most MTL__SEQUENCES rows, every row
   16 wide. It knows nothing of products, time or packing. */
typedef struct mtl__cell_block {
    size_t rows;
    int activation;                             /* RNN */
    mtl_real *z; size_t z_row;                  /* gates of a row: [gate][16] */
    const mtl_real *h_before; size_t h_before_row;
    const mtl_real *c_before; size_t c_before_row;
    mtl_real *c, *extra; size_t c_row, extra_row;
    mtl_real *h; size_t h_row;                  /* forward: new states; backward of an RNN: what they were */
    const mtl_real *dy; size_t dy_row;
    mtl_real *dh, *dc; size_t dh_row;           /* carries */
    mtl_real *dz; size_t dz_row;                /* slots of a row: [slot][16] */
} mtl__cell_block;

/* Copies of what is exactly H wide, for a last block that is not full. */
typedef struct mtl__cell_stage {
    mtl_real h_before[MTL__SEQUENCES * MTL__BLOCK], c_before[MTL__SEQUENCES * MTL__BLOCK];
    mtl_real dy[MTL__SEQUENCES * MTL__BLOCK], h[MTL__SEQUENCES * MTL__BLOCK];
    mtl__cell_block block;
} mtl__cell_stage;

/* The functions of a cell. */
typedef struct mtl__cell_functions {
    void (*step)(const mtl__cell_pass *p, const mtl__cell_rows *part);          /* z to h, and c */
    void (*step_back)(const mtl__cell_pass *p, const mtl__cell_rows *part);     /* dy, dh and dc to dz */
    void (*single)(const mtl__cell_single *p, const mtl__cell_block *b);        /* both, all blocks at once */
} mtl__cell_functions;

/* A part's rows, one block of units after the other; of a single row, up to MTL__SEQUENCES blocks at once. */
typedef struct mtl__cell_walk {
    size_t unit, blocks;                        /* the first unit that is worked on, and how many blocks */
    mtl__cell_block at;                         /* that block, where it stands */
    mtl__cell_stage stage;
} mtl__cell_walk;

MTL__INLINE size_t mtl__cell_z_row(const mtl__cell_pass *p) { return p->kind->gates * MTL__BLOCK; }
MTL__INLINE size_t mtl__cell_dz_row(const mtl__cell_pass *p) { return p->kind->slots * MTL__BLOCK; }

/* Copies the part's input products into z. */
MTL__INLINE void mtl__cell_copy_same(const mtl__cell_pass *p, const mtl__cell_rows *part)
{
    const size_t z_row = mtl__cell_z_row(p);
    size_t block, row;
    for (block = part->begin / MTL__BLOCK; block * MTL__BLOCK < part->end; block++)
        for (row = part->row; row < part->row + part->rows; row++)
            memcpy(p->z + block * p->z_block + (row - p->z_first) * z_row,
                   p->same + block * p->same_block + (size_t)p->same_row[row] * z_row, z_row * sizeof *p->z);
}

/* Very large recurrent weights, more than 4 MB, are read for many sequences at once: those of a few units
   (128 KB) meet MTL__SEQUENCES sequences after the other, which changes no sum. For smaller ones that
   measured slower: docs/performance.md. Bounds are reals. LARGE, 256 KB, is what rows of input products are
   not cut finely for. */
#ifndef MTL__CELL_GROUPED                       /* tests make it small */
#define MTL__CELL_GROUPED 1048576
#endif
enum { MTL__CELL_LARGE = 65536, MTL__CELL_NEAR = 32768, MTL__CELL_TOGETHER = 64 };

MTL__INLINE size_t mtl__cell_weights_of(const mtl__cell_pass *p, size_t units)
{
    return p->kind->gates * p->units * units;
}

/* Sequences that pass a step together. */
MTL__INLINE size_t mtl__cell_together(const mtl__cell_pass *p)
{
    return mtl__cell_weights_of(p, p->units) > MTL__CELL_GROUPED && p->kind->joint == p->kind->gates
        ? (size_t)MTL__CELL_TOGETHER : (size_t)MTL__SEQUENCES;
}

/* Units whose weights stay near meanwhile, of the step's H. */
MTL__INLINE size_t mtl__cell_units_near(const mtl__cell_pass *p)
{
    const size_t blocks = MTL__CELL_NEAR / mtl__cell_weights_of(p, MTL__BLOCK);
    return mtl__cell_together(p) == MTL__SEQUENCES ? p->units : blocks
        ? blocks * MTL__BLOCK : (size_t)MTL__BLOCK;
}

/* Moves *from to a zero-padded copy. */
static void mtl__cell_copy_in(const mtl_real **from, size_t *stride, size_t rows, size_t width,
                              mtl_real *copy)
{
    size_t row;
    memset(copy, 0, rows * MTL__BLOCK * sizeof *copy);
    for (row = 0; row < rows; row++) memcpy(copy + row * MTL__BLOCK, *from + row * *stride,
                                            width * sizeof *copy);
    *from = copy;
    *stride = MTL__BLOCK;
}

/* Pointers to the first block of the part's rows; NULL for what p does not have. One row is too little to
   work on: then blocks of units take the place of rows. */
static void mtl__cell_open(const mtl__cell_pass *p, const mtl__cell_rows *part, mtl__cell_block *b)
{
    const size_t row = part->row, sequence = part->sequence, z_row = mtl__cell_z_row(p);
    const size_t dz_row = mtl__cell_dz_row(p),
        padded = mtl__padded(p->units);
    const int one_row = part->rows == 1;
    b->rows = part->rows;
    b->activation = p->activation;
    b->z = p->z + (row - p->z_first) * z_row;
    b->h_before = part->h ? part->h : mtl__zeros;
    b->c_before = part->c;
    b->c = p->c ? p->c + (p->keep ? row : sequence) * p->c_stride : NULL;
    b->extra = p->extra ? p->extra + row * p->c_stride : NULL;
    b->extra_row = p->c_stride;
    if (p->kind->joint < p->kind->gates && !p->keep) {  /* r*h has no row in time, only one for each
                                                           sequence */
        b->extra = p->scratch + sequence * padded;
        b->extra_row = padded;
    }
    b->h = p->y + row * p->y_stride;
    b->dy = p->dy ? p->dy + row * p->dy_stride : mtl__zeros;
    b->dh = p->dh ? p->dh + sequence * p->dh_stride : NULL;
    b->dc = p->dc ? p->dc + sequence * p->dh_stride : NULL;
    b->dz = p->dz ? p->dz + (row - p->dz_first) * dz_row : NULL;
    b->z_row = one_row ? p->z_block : z_row;
    b->dz_row = one_row ? p->dz_block : dz_row;
    b->h_row = one_row ? (size_t)MTL__BLOCK : p->y_stride;
    b->c_row = one_row ? (size_t)MTL__BLOCK : p->c_stride;
    b->dh_row = one_row ? (size_t)MTL__BLOCK : p->dh_stride;
    if (one_row) b->extra_row = MTL__BLOCK;
    b->h_before_row = one_row && part->h_stride ? (size_t)MTL__BLOCK : part->h_stride;
    b->c_before_row = one_row && part->c_stride ? (size_t)MTL__BLOCK : part->c_stride;
    b->dy_row = one_row && p->dy ? (size_t)MTL__BLOCK : p->dy ? p->dy_stride : 0;
}

/* ... `blocks` blocks on. What has a stride of 0 stays where it is. */
static void mtl__cell_advance(const mtl__cell_pass *p, mtl__cell_block *b, size_t blocks)
{
    const size_t units = blocks * MTL__BLOCK;
    b->z += blocks * p->z_block;
    b->h += units;
    if (b->h_before_row) b->h_before += units;
    if (b->c_before_row) b->c_before += units;
    if (b->c) b->c += units;
    if (b->extra) b->extra += units;
    if (b->dy_row) b->dy += units;
    if (b->dh) b->dh += units;
    if (b->dc) b->dc += units;
    if (b->dz) b->dz += blocks * p->dz_block;
}

/* The last block, when it is not full: what is exactly H wide is copied. */
static void mtl__cell_enter_last(const mtl__cell_rows *part, const mtl__cell_block *at, size_t units_left,
                                 mtl__cell_stage *stage)
{
    mtl__cell_block *b = &stage->block;
    const mtl_real *h = at->h;
    *b = *at;
    b->rows = part->rows;
    if (b->h_before_row) mtl__cell_copy_in(&b->h_before, &b->h_before_row, b->rows, units_left,
                                           stage->h_before);
    if (b->c_before_row && !part->linked) mtl__cell_copy_in(&b->c_before, &b->c_before_row, b->rows,
                                                            units_left, stage->c_before);
    if (b->dy_row) mtl__cell_copy_in(&b->dy, &b->dy_row, b->rows, units_left, stage->dy);
    if (b->dz) mtl__cell_copy_in(&h, &b->h_row, b->rows, units_left, stage->h);
    b->h = stage->h;
    b->h_row = MTL__BLOCK;
}

/* What the element-wise part works on at walk->unit. */
static const mtl__cell_block *mtl__cell_enter(const mtl__cell_rows *part, mtl__cell_walk *walk)
{
    const size_t left = part->end - walk->unit;
    walk->blocks = part->rows == 1 && left >= MTL__BLOCK
        ? mtl__at_most(left / MTL__BLOCK, MTL__SEQUENCES) : 1;
    if (left < MTL__BLOCK) {
        mtl__cell_enter_last(part, &walk->at, left, &walk->stage);
        return &walk->stage.block;
    }
    if (part->rows == 1) walk->at.rows = walk->blocks;
    return &walk->at;
}

/* for (b = mtl__cell_first(p, part, &walk); b; b = mtl__cell_next(p, part, &walk)) visits every block. */
static const mtl__cell_block *mtl__cell_first(const mtl__cell_pass *p, const mtl__cell_rows *part,
                                              mtl__cell_walk *walk)
{
    mtl__cell_open(p, part, &walk->at);
    mtl__cell_advance(p, &walk->at, part->begin / MTL__BLOCK);
    walk->unit = part->begin;
    return mtl__cell_enter(part, walk);
}

static const mtl__cell_block *mtl__cell_next(const mtl__cell_pass *p, const mtl__cell_rows *part,
                                             mtl__cell_walk *walk)
{
    walk->unit += walk->blocks * MTL__BLOCK;
    if (walk->unit >= part->end) return NULL;
    mtl__cell_advance(p, &walk->at, walk->blocks);
    return mtl__cell_enter(part, walk);
}

/* Forward, after each block: of one that is not full, new states from the copy to y. */
static void mtl__cell_leave(const mtl__cell_pass *p, const mtl__cell_walk *walk)
{
    const size_t left = p->units - walk->unit;
    size_t row;
    if (left >= MTL__BLOCK) return;
    for (row = 0; row < walk->stage.block.rows; row++)
        memcpy(walk->at.h + row * walk->at.h_row, walk->stage.h + row * MTL__BLOCK, left * sizeof(mtl_real));
}

/* Backward, after each block: of one that is not full, zeros into the padding of dz, whatever the padding of
   its operands held. */
static void mtl__cell_leave_backward(const mtl__cell_pass *p, const mtl__cell_walk *walk)
{
    const size_t left = p->units - walk->unit, slots = mtl__cell_dz_row(p);
    const mtl__cell_block *b = &walk->stage.block;
    size_t row, slot, u;
    if (left >= MTL__BLOCK) return;
    for (row = 0; row < b->rows; row++)
        for (slot = 0; slot < slots; slot += MTL__BLOCK)
            for (u = left; u < MTL__BLOCK; u++) b->dz[row * b->dz_row + slot + u] = 0;
}

/* Two 32-bit words that a row of a dropout mask is made from. */
MTL__INLINE void mtl__dropout_row(const mtl__dropout *p, size_t row, uint32_t half[2])
{
    const uint64_t key = p->key ? (uint64_t)p->key[row] : (uint64_t)row;
    const uint64_t bits = mtl__random_bits(p->seed, p->stream, key);
    half[0] = (uint32_t)bits;
    half[1] = (uint32_t)(bits >> 32);
}

/* Against -ffast-math, which a caller may compile with:
   MTL__HIDE    what passed through is a new number to the compiler, so a sum whose order matters (rounding
                errors made on purpose) is cut in two. Costs no instruction.
   MTL__KEEP_NAN  y, but NaN where x is NaN; needed only where the compiler may lose it.
   MTL__DIVIDE  a true division, where that option makes an estimate with a correction of `plain`, 2 ulp off
   and wrong at infinity. */
#if defined(__GNUC__) && defined(__x86_64__)
#  define MTL__HIDE(value) __asm__("" : "+x"(value))
#  ifndef MTL__AVX512_EMULATED
#    define MTL__HIDE_512(value) __asm__("" : "+v"(value))
#  else
#    define MTL__HIDE_512(value) __asm__("" : "+m"(value))
#  endif
#elif defined(__GNUC__) && defined(__aarch64__)
#  define MTL__HIDE(value) __asm__("" : "+w"(value))
#elif defined(__GNUC__) && !defined(__TINYC__)
#  define MTL__HIDE(value) __asm__("" : "+m"(value))
#else
#  define MTL__HIDE(value) ((void)(value))
#  define MTL__HIDE_512(value) ((void)(value))
#endif
/* What a whole number or a pointer is made of is forgotten here: no address is computed ahead and carried
   through a loop. */
#if defined(__GNUC__) && !defined(__TINYC__)
#  define MTL__FORGET(value) __asm__("" : "+r"(value))
#else
#  define MTL__FORGET(value) ((void)(value))
#endif
#if defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
#  define MTL__KEEP_NAN(y, x) mtl__keep_nan(y, x)
#else
#  define MTL__KEEP_NAN(y, x) (y)
#endif
#if defined(__GNUC__) && defined(__FAST_MATH__)
#  define MTL__DIVIDE(quotient, a, b, plain, instruction, register_kind) \
       __asm__(instruction : "=" register_kind(quotient) : "0"(a), register_kind(b))
#else
#  define MTL__DIVIDE(quotient, a, b, plain, instruction, register_kind) (quotient = plain(a, b))
#endif

#endif /* implementation, first part */

#else /* MTL__STAMP: the template, read again once per instruction set */

/* -----------------------------------------------------------------------------------------------------------
   The kernel template. Read once per instruction set, which only the part "vectors" knows about; everything
   below it is written once. MTL__STAMP, MTL__ISA and MTL__TARGET come from >>dispatch. Every name has the
   instruction set's name added, so mtl__add is mtl__add_avx2 in a debugger.

   A vector holds MTL__LANES reals; a column block of 16 is MTL__PARTS vectors. Loops over parts, tile rows
   and tile blocks have small constant counts once inlined and are unrolled, so that their arrays become
   registers.
   -------------------------------------------------------------------------------------------------------- */
#define MTL__FN(name) MTL__CAT(name##_, MTL__ISA)
#if defined(MTL__TARGET) && defined(__GNUC__)
#  define MTL__TARGETED __attribute__((target(MTL__TARGET)))
#else
#  define MTL__TARGETED
#endif
#define MTL__VECTOR MTL__ALWAYS_INLINE MTL__TARGETED    /* a piece of a kernel */
#define MTL__KERNEL static MTL__NOINLINE MTL__TARGETED  /* a function of its own */

#define mtl__vec             MTL__FN(mtl__vec)
#define mtl__all             MTL__FN(mtl__all)
#define mtl__load            MTL__FN(mtl__load)
#define mtl__store           MTL__FN(mtl__store)
#define mtl__load_some       MTL__FN(mtl__load_some)
#define mtl__store_some      MTL__FN(mtl__store_some)
#define mtl__add             MTL__FN(mtl__add)
#define mtl__sub             MTL__FN(mtl__sub)
#define mtl__mul             MTL__FN(mtl__mul)
#define mtl__div             MTL__FN(mtl__div)
#define mtl__sqrt            MTL__FN(mtl__sqrt)
#define mtl__min             MTL__FN(mtl__min)
#define mtl__max             MTL__FN(mtl__max)
#define mtl__muladd          MTL__FN(mtl__muladd)
#define mtl__submul          MTL__FN(mtl__submul)
#define mtl__where_positive  MTL__FN(mtl__where_positive)
#define mtl__abs             MTL__FN(mtl__abs)
#define mtl__minus_abs       MTL__FN(mtl__minus_abs)
#define mtl__with_sign       MTL__FN(mtl__with_sign)
#define mtl__keep_nan        MTL__FN(mtl__keep_nan)
#define mtl__power           MTL__FN(mtl__power)
#define mtl__whole           MTL__FN(mtl__whole)
#define mtl__scaled          MTL__FN(mtl__scaled)
#define mtl__hidden          MTL__FN(mtl__hidden)
#define mtl__transpose       MTL__FN(mtl__transpose)
#define mtl__uints           MTL__FN(mtl__uints)
#define mtl__uints_from      MTL__FN(mtl__uints_from)
#define mtl__uints_add       MTL__FN(mtl__uints_add)
#define mtl__uints_fold      MTL__FN(mtl__uints_fold)
#define mtl__uints_mul       MTL__FN(mtl__uints_mul)
#define mtl__where_not_below MTL__FN(mtl__where_not_below)
#define mtl__add_squares     MTL__FN(mtl__add_squares)
#define mtl__lanes_sum       MTL__FN(mtl__lanes_sum)
#define mtl__lanes_max       MTL__FN(mtl__lanes_max)
#define mtl__dot_pairs       MTL__FN(mtl__dot_pairs)
#define mtl__pairs_along     MTL__FN(mtl__pairs_along)
#define mtl__pairs_across    MTL__FN(mtl__pairs_across)

/* ---- vectors: what differs between instruction sets -------------------------------------------------------
   all(x)                  x in every lane                load_some, store_some   the first n lanes, the
                                                          others are 0
   muladd(a, b, c)         a*b + c                        submul(a, b, c)         c - a*b
   where_positive(x, y)    y where x > 0, else 0          with_sign(y, x)         |y| with the sign of x; abs,
                                                          minus_abs: |x|, -|x|
   keep_nan(y, x)          NaN where x is NaN, else y; looks at bits, since -ffast-math takes every comparison
                           with NaN for false
   whole(x, a, &power)     the whole number n next to a*x, and 2^n in whatever form scaled wants it
   scaled(y, power)        y * 2^n for -126 <= n <= 127   hidden(x)               x, whose origin the compiler
                                                          is not to see (MTL__HIDE)
   transpose               LANES x LANES reals
   uints                   32-bit whole numbers: uints_from(n) is n, n+1, ...; fold(x, s) is x ^ x >> s
   where_not_below(w, limit, y)    y where w >> 8 >= limit, else 0
   add_squares(x, sums)    sums[lane] += x*x in double    TILE_SUMS               accumulators of the largest
                                                          tile
   min(a, x), max(a, x): NaN in the second operand wins (unless a compiler swaps them, as -ffast-math allows).
   Where MTL__PAIRS is 1, pairs of two bfloat16 (see the head of this section; subnormal numbers may count as
   zero):
   pairs_along(x, y)       pairs of neighbours, of 2 LANES reals in order (x, then y)       pairs_across(x, y)
                           pairs of x[i], y[i]
   dot_pairs(a, b, c)      c + a1*b1 + a0*b0, upper halves first, each sum rounded to float

   whole without an instruction for it: adding 1.5 * 2^23 + 127 leaves n + 127 in the lowest bits of the sum;
   shifted into the exponent's place, it is 2^n. */

#if MTL__STAMP == 4     /* AVX-512: 32 registers of 16 */
#define MTL__LANES 16
#define MTL__TILE_SUMS 24
#define MTL__TILE_ROWS 6

typedef __m512 mtl__vec;
MTL__VECTOR __mmask16 MTL__FN(mtl__first)(size_t n) { return (__mmask16)((1u << n) - 1u); }
MTL__VECTOR __m512i MTL__FN(mtl__bits)(mtl__vec x) { return _mm512_castps_si512(x); }
MTL__VECTOR mtl__vec mtl__all(float x) { return _mm512_set1_ps(x); }
MTL__VECTOR mtl__vec mtl__load(const float *p) { return _mm512_loadu_ps(p); }
MTL__VECTOR void mtl__store(float *p, mtl__vec x) { _mm512_storeu_ps(p, x); }
MTL__VECTOR mtl__vec mtl__load_some(const float *p, size_t n)
{
    return _mm512_maskz_loadu_ps(MTL__FN(mtl__first)(n), p);
}
MTL__VECTOR void mtl__store_some(float *p, mtl__vec x, size_t n)
{
    _mm512_mask_storeu_ps(p, MTL__FN(mtl__first)(n), x);
}
MTL__VECTOR mtl__vec mtl__add(mtl__vec a, mtl__vec b) { return _mm512_add_ps(a, b); }
MTL__VECTOR mtl__vec mtl__sub(mtl__vec a, mtl__vec b) { return _mm512_sub_ps(a, b); }
MTL__VECTOR mtl__vec mtl__mul(mtl__vec a, mtl__vec b) { return _mm512_mul_ps(a, b); }
MTL__VECTOR mtl__vec mtl__sqrt(mtl__vec a) { return _mm512_sqrt_ps(a); }
MTL__VECTOR mtl__vec mtl__min(mtl__vec a, mtl__vec x) { return _mm512_min_ps(a, x); }
MTL__VECTOR mtl__vec mtl__max(mtl__vec a, mtl__vec x) { return _mm512_max_ps(a, x); }
MTL__VECTOR mtl__vec mtl__muladd(mtl__vec a, mtl__vec b, mtl__vec c) { return _mm512_fmadd_ps(a, b, c); }
MTL__VECTOR mtl__vec mtl__submul(mtl__vec a, mtl__vec b, mtl__vec c) { return _mm512_fnmadd_ps(a, b, c); }
MTL__VECTOR mtl__vec mtl__where_positive(mtl__vec x, mtl__vec y)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ), y);
}
MTL__VECTOR mtl__vec mtl__abs(mtl__vec x)
{
    return _mm512_castsi512_ps(_mm512_and_si512(MTL__FN(mtl__bits)(x), _mm512_set1_epi32(0x7fffffff)));
}
MTL__VECTOR mtl__vec mtl__minus_abs(mtl__vec x) { return _mm512_or_ps(x, _mm512_set1_ps(-0.0f)); }
MTL__VECTOR mtl__vec mtl__with_sign(mtl__vec y, mtl__vec x)
{
    const __m512i bits =
        _mm512_ternarylogic_epi32(_mm512_set1_epi32(0x7fffffff), MTL__FN(mtl__bits)(y), MTL__FN(mtl__bits)(x),
                                  0xca);
    return _mm512_castsi512_ps(bits);
}
MTL__VECTOR mtl__vec mtl__keep_nan(mtl__vec y, mtl__vec x)
{
    const __m512i magnitude = MTL__FN(mtl__bits)(mtl__abs(x));
    return _mm512_mask_mov_ps(y, _mm512_cmpgt_epi32_mask(magnitude, _mm512_set1_epi32(0x7f800000)), x);
}
typedef __m512 mtl__power;
MTL__VECTOR mtl__vec mtl__whole(mtl__vec x, float a, mtl__power *power)
{
    return *power = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(a)),
                                         _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
MTL__VECTOR mtl__vec mtl__scaled(mtl__vec y, mtl__power power) { return _mm512_scalef_ps(y, power); }
MTL__VECTOR mtl__vec mtl__hidden(mtl__vec x)
{
    MTL__HIDE_512(x);
    return x;
}
MTL__VECTOR mtl__vec mtl__div(mtl__vec a, mtl__vec b)
{
    mtl__vec quotient;
    MTL__DIVIDE(quotient, a, b, _mm512_div_ps, "vdivps %2, %0, %0", "v");
    return quotient;
}
/* Pairs of rows, pairs of pairs, then 128-bit quarters. */
MTL__VECTOR void mtl__transpose(const float *from, size_t from_stride, float *to, size_t to_stride)
{
    __m512 r[16], t[16];
    size_t i;
    MTL__UNROLL
    for (i = 0; i < 16; i++) r[i] = _mm512_loadu_ps(from + i * from_stride);
    MTL__UNROLL
    for (i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    MTL__UNROLL
    for (i = 0; i < 16; i += 4) {
        const __m512d a = _mm512_castps_pd(t[i]), b = _mm512_castps_pd(t[i + 1]);
        const __m512d c = _mm512_castps_pd(t[i + 2]), d = _mm512_castps_pd(t[i + 3]);
        r[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
        r[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
        r[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
        r[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
    }
    MTL__UNROLL
    for (i = 0; i < 4; i++) {
        const __m512 even0 = _mm512_shuffle_f32x4(r[i], r[4 + i], 0x88),
            odd0 = _mm512_shuffle_f32x4(r[i], r[4 + i], 0xdd);
        const __m512 even8 = _mm512_shuffle_f32x4(r[8 + i], r[12 + i], 0x88),
                     odd8 = _mm512_shuffle_f32x4(r[8 + i], r[12 + i], 0xdd);
        t[i] = _mm512_shuffle_f32x4(even0, even8, 0x88);
        t[8 + i] = _mm512_shuffle_f32x4(even0, even8, 0xdd);
        t[4 + i] = _mm512_shuffle_f32x4(odd0, odd8, 0x88);
        t[12 + i] = _mm512_shuffle_f32x4(odd0, odd8, 0xdd);
    }
    MTL__UNROLL
    for (i = 0; i < 16; i++) _mm512_storeu_ps(to + i * to_stride, t[i]);
}
typedef __m512i mtl__uints;
MTL__VECTOR mtl__uints mtl__uints_from(uint32_t n)
{
    return _mm512_add_epi32(_mm512_set1_epi32((int)n),
                            _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
}
MTL__VECTOR mtl__uints mtl__uints_add(mtl__uints x, uint32_t n)
{
    return _mm512_add_epi32(x, _mm512_set1_epi32((int)n));
}
MTL__VECTOR mtl__uints mtl__uints_fold(mtl__uints x, int shift)
{
    return _mm512_xor_si512(x, _mm512_srli_epi32(x, (unsigned)shift));
}
MTL__VECTOR mtl__uints mtl__uints_mul(mtl__uints x, uint32_t n)
{
    return _mm512_mullo_epi32(x, _mm512_set1_epi32((int)n));
}
MTL__VECTOR mtl__vec mtl__where_not_below(mtl__uints w, uint32_t limit, mtl__vec y)
{
    return _mm512_maskz_mov_ps(_mm512_cmpge_epi32_mask(_mm512_srli_epi32(w, 8),
                                                       _mm512_set1_epi32((int)limit)), y);
}
MTL__VECTOR void mtl__add_squares(mtl__vec x, double *sums)
{
    const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(x)),
        high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1));
    _mm512_storeu_pd(sums, _mm512_fmadd_pd(low, low, _mm512_loadu_pd(sums)));
    _mm512_storeu_pd(sums + 8, _mm512_fmadd_pd(high, high, _mm512_loadu_pd(sums + 8)));
}
MTL__VECTOR float mtl__lanes_sum(mtl__vec x) { return _mm512_reduce_add_ps(x); }
MTL__VECTOR float mtl__lanes_max(mtl__vec x) { return _mm512_reduce_max_ps(x); }
#if MTL__BF16_COMPILER
#define MTL__PAIRS 1
MTL__VECTOR mtl__vec mtl__dot_pairs(mtl__vec a, mtl__vec b, mtl__vec c)
{
    return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);
}
MTL__VECTOR mtl__vec mtl__pairs_along(mtl__vec x, mtl__vec y) { return (__m512)_mm512_cvtne2ps_pbh(y, x); }
MTL__VECTOR mtl__vec mtl__pairs_across(mtl__vec x, mtl__vec y)
{
    const __m512i zip = _mm512_setr_epi32(0x100000, 0x110001, 0x120002, 0x130003, 0x140004, 0x150005,
                                          0x160006, 0x170007, 0x180008, 0x190009, 0x1a000a, 0x1b000b,
                                              0x1c000c, 0x1d000d, 0x1e000e, 0x1f000f);
    return _mm512_castsi512_ps(_mm512_permutexvar_epi16(zip, (__m512i)_mm512_cvtne2ps_pbh(y, x)));
}
#endif

#elif MTL__STAMP == 3   /* AVX2 with FMA: 16 registers of 8 */
#define MTL__LANES 8
#define MTL__TILE_SUMS 12
#define MTL__TILE_ROWS 6

typedef __m256 mtl__vec;
MTL__VECTOR __m256i MTL__FN(mtl__first)(size_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
MTL__VECTOR mtl__vec mtl__all(float x) { return _mm256_set1_ps(x); }
MTL__VECTOR mtl__vec mtl__load(const float *p) { return _mm256_loadu_ps(p); }
MTL__VECTOR void mtl__store(float *p, mtl__vec x) { _mm256_storeu_ps(p, x); }
MTL__VECTOR mtl__vec mtl__load_some(const float *p, size_t n)
{
    return _mm256_maskload_ps(p, MTL__FN(mtl__first)(n));
}
MTL__VECTOR void mtl__store_some(float *p, mtl__vec x, size_t n)
{
    _mm256_maskstore_ps(p, MTL__FN(mtl__first)(n), x);
}
MTL__VECTOR mtl__vec mtl__add(mtl__vec a, mtl__vec b) { return _mm256_add_ps(a, b); }
MTL__VECTOR mtl__vec mtl__sub(mtl__vec a, mtl__vec b) { return _mm256_sub_ps(a, b); }
MTL__VECTOR mtl__vec mtl__mul(mtl__vec a, mtl__vec b) { return _mm256_mul_ps(a, b); }
MTL__VECTOR mtl__vec mtl__sqrt(mtl__vec a) { return _mm256_sqrt_ps(a); }
MTL__VECTOR mtl__vec mtl__min(mtl__vec a, mtl__vec x) { return _mm256_min_ps(a, x); }
MTL__VECTOR mtl__vec mtl__max(mtl__vec a, mtl__vec x) { return _mm256_max_ps(a, x); }
MTL__VECTOR mtl__vec mtl__muladd(mtl__vec a, mtl__vec b, mtl__vec c) { return _mm256_fmadd_ps(a, b, c); }
MTL__VECTOR mtl__vec mtl__submul(mtl__vec a, mtl__vec b, mtl__vec c) { return _mm256_fnmadd_ps(a, b, c); }
MTL__VECTOR mtl__vec mtl__where_positive(mtl__vec x, mtl__vec y)
{
    return _mm256_and_ps(_mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_GT_OQ), y);
}
MTL__VECTOR mtl__vec mtl__abs(mtl__vec x)
{
    return _mm256_and_ps(x, _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff)));
}
MTL__VECTOR mtl__vec mtl__minus_abs(mtl__vec x) { return _mm256_or_ps(x, _mm256_set1_ps(-0.0f)); }
MTL__VECTOR mtl__vec mtl__with_sign(mtl__vec y, mtl__vec x)
{
    return _mm256_or_ps(mtl__abs(y), _mm256_andnot_ps(_mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff)), x));
}
MTL__VECTOR mtl__vec mtl__keep_nan(mtl__vec y, mtl__vec x)
{
    const __m256i nan = _mm256_cmpgt_epi32(_mm256_castps_si256(mtl__abs(x)), _mm256_set1_epi32(0x7f800000));
    return _mm256_or_ps(y, _mm256_castsi256_ps(nan));
}
MTL__VECTOR mtl__vec mtl__hidden(mtl__vec x)
{
    MTL__HIDE(x);
    return x;
}
typedef __m256 mtl__power;
MTL__VECTOR mtl__vec mtl__whole(mtl__vec x, float a, mtl__power *power)
{
    const mtl__vec shifter = mtl__all(12583039.0f), sum = mtl__hidden(mtl__muladd(x, mtl__all(a), shifter));
    *power = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(sum), 23));
    return mtl__hidden(mtl__sub(sum, shifter));
}
MTL__VECTOR mtl__vec mtl__scaled(mtl__vec y, mtl__power power) { return mtl__mul(y, power); }
MTL__VECTOR mtl__vec mtl__div(mtl__vec a, mtl__vec b)
{
    mtl__vec quotient;
    MTL__DIVIDE(quotient, a, b, _mm256_div_ps, "vdivps %2, %0, %0", "x");
    return quotient;
}
MTL__VECTOR void mtl__transpose(const float *from, size_t from_stride, float *to, size_t to_stride)
{
    __m256 r[8], t[8];
    size_t i;
    MTL__UNROLL
    for (i = 0; i < 8; i++) r[i] = _mm256_loadu_ps(from + i * from_stride);
    MTL__UNROLL
    for (i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    MTL__UNROLL
    for (i = 0; i < 8; i += 4) {
        r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    MTL__UNROLL
    for (i = 0; i < 4; i++) {
        _mm256_storeu_ps(to + i * to_stride, _mm256_permute2f128_ps(r[i], r[4 + i], 0x20));
        _mm256_storeu_ps(to + (4 + i) * to_stride, _mm256_permute2f128_ps(r[i], r[4 + i], 0x31));
    }
}
typedef __m256i mtl__uints;
MTL__VECTOR mtl__uints mtl__uints_from(uint32_t n)
{
    return _mm256_add_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
MTL__VECTOR mtl__uints mtl__uints_add(mtl__uints x, uint32_t n)
{
    return _mm256_add_epi32(x, _mm256_set1_epi32((int)n));
}
MTL__VECTOR mtl__uints mtl__uints_fold(mtl__uints x, int shift)
{
    return _mm256_xor_si256(x, _mm256_srli_epi32(x, shift));
}
MTL__VECTOR mtl__uints mtl__uints_mul(mtl__uints x, uint32_t n)
{
    return _mm256_mullo_epi32(x, _mm256_set1_epi32((int)n));
}
MTL__VECTOR mtl__vec mtl__where_not_below(mtl__uints w, uint32_t limit, mtl__vec y)
{
    const __m256i below = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)limit), _mm256_srli_epi32(w, 8));
    return _mm256_andnot_ps(_mm256_castsi256_ps(below), y);
}
MTL__VECTOR void mtl__add_squares(mtl__vec x, double *sums)
{
    const __m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128(x)),
        high = _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1));
    _mm256_storeu_pd(sums, _mm256_fmadd_pd(low, low, _mm256_loadu_pd(sums)));
    _mm256_storeu_pd(sums + 4, _mm256_fmadd_pd(high, high, _mm256_loadu_pd(sums + 4)));
}
MTL__VECTOR float mtl__lanes_sum(mtl__vec x)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
}
MTL__VECTOR float mtl__lanes_max(mtl__vec x)
{
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_shuffle_ps(s, s, 1)));
}

#elif MTL__STAMP == 2   /* SSE2, what every 64-bit x86 has: 16 registers of 4, no fused multiply-add */
#define MTL__LANES 4
#define MTL__TILE_SUMS 12
#define MTL__TILE_ROWS 3

typedef __m128 mtl__vec;
MTL__VECTOR mtl__vec mtl__all(float x) { return _mm_set1_ps(x); }
MTL__VECTOR mtl__vec mtl__load(const float *p) { return _mm_loadu_ps(p); }
MTL__VECTOR void mtl__store(float *p, mtl__vec x) { _mm_storeu_ps(p, x); }
MTL__VECTOR mtl__vec mtl__add(mtl__vec a, mtl__vec b) { return _mm_add_ps(a, b); }
MTL__VECTOR mtl__vec mtl__sub(mtl__vec a, mtl__vec b) { return _mm_sub_ps(a, b); }
MTL__VECTOR mtl__vec mtl__mul(mtl__vec a, mtl__vec b) { return _mm_mul_ps(a, b); }
MTL__VECTOR mtl__vec mtl__sqrt(mtl__vec a) { return _mm_sqrt_ps(a); }
MTL__VECTOR mtl__vec mtl__min(mtl__vec a, mtl__vec x) { return _mm_min_ps(a, x); }
MTL__VECTOR mtl__vec mtl__max(mtl__vec a, mtl__vec x) { return _mm_max_ps(a, x); }
MTL__VECTOR mtl__vec mtl__muladd(mtl__vec a, mtl__vec b, mtl__vec c)
{
    return _mm_add_ps(_mm_mul_ps(a, b), c);
}
MTL__VECTOR mtl__vec mtl__submul(mtl__vec a, mtl__vec b, mtl__vec c)
{
    return _mm_sub_ps(c, _mm_mul_ps(a, b));
}
MTL__VECTOR mtl__vec mtl__where_positive(mtl__vec x, mtl__vec y)
{
    return _mm_and_ps(_mm_cmpgt_ps(x, _mm_setzero_ps()), y);
}
MTL__VECTOR mtl__vec mtl__abs(mtl__vec x)
{
    return _mm_and_ps(x, _mm_castsi128_ps(_mm_set1_epi32(0x7fffffff)));
}
MTL__VECTOR mtl__vec mtl__minus_abs(mtl__vec x) { return _mm_or_ps(x, _mm_set1_ps(-0.0f)); }
MTL__VECTOR mtl__vec mtl__with_sign(mtl__vec y, mtl__vec x)
{
    return _mm_or_ps(mtl__abs(y), _mm_andnot_ps(_mm_castsi128_ps(_mm_set1_epi32(0x7fffffff)), x));
}
MTL__VECTOR mtl__vec mtl__keep_nan(mtl__vec y, mtl__vec x)
{
    const __m128i nan = _mm_cmpgt_epi32(_mm_castps_si128(mtl__abs(x)), _mm_set1_epi32(0x7f800000));
    return _mm_or_ps(y, _mm_castsi128_ps(nan));
}
MTL__VECTOR mtl__vec mtl__hidden(mtl__vec x)
{
    MTL__HIDE(x);
    return x;
}
typedef __m128 mtl__power;
MTL__VECTOR mtl__vec mtl__whole(mtl__vec x, float a, mtl__power *power)
{
    const mtl__vec shifter = mtl__all(12583039.0f), sum = mtl__hidden(mtl__muladd(x, mtl__all(a), shifter));
    *power = _mm_castsi128_ps(_mm_slli_epi32(_mm_castps_si128(sum), 23));
    return mtl__hidden(mtl__sub(sum, shifter));
}
MTL__VECTOR mtl__vec mtl__scaled(mtl__vec y, mtl__power power) { return mtl__mul(y, power); }
MTL__VECTOR mtl__vec mtl__div(mtl__vec a, mtl__vec b)
{
    mtl__vec quotient;
    MTL__DIVIDE(quotient, a, b, _mm_div_ps, "divps %2, %0", "x");
    return quotient;
}
MTL__VECTOR void mtl__transpose(const float *from, size_t from_stride, float *to, size_t to_stride)
{
    __m128 a = _mm_loadu_ps(from), b = _mm_loadu_ps(from + from_stride);
    __m128 c = _mm_loadu_ps(from + 2 * from_stride), d = _mm_loadu_ps(from + 3 * from_stride);
    _MM_TRANSPOSE4_PS(a, b, c, d);
    _mm_storeu_ps(to, a);
    _mm_storeu_ps(to + to_stride, b);
    _mm_storeu_ps(to + 2 * to_stride, c);
    _mm_storeu_ps(to + 3 * to_stride, d);
}
typedef __m128i mtl__uints;
MTL__VECTOR mtl__uints mtl__uints_from(uint32_t n)
{
    return _mm_add_epi32(_mm_set1_epi32((int)n), _mm_setr_epi32(0, 1, 2, 3));
}
MTL__VECTOR mtl__uints mtl__uints_add(mtl__uints x, uint32_t n)
{
    return _mm_add_epi32(x, _mm_set1_epi32((int)n));
}
MTL__VECTOR mtl__uints mtl__uints_fold(mtl__uints x, int shift)
{
    return _mm_xor_si128(x, _mm_srli_epi32(x, shift));
}
MTL__VECTOR mtl__uints mtl__uints_mul(mtl__uints x, uint32_t n)
{
    const __m128i m = _mm_set1_epi32((int)n);                           /* SSE2 multiplies even lanes only */
    const __m128i even = _mm_mul_epu32(x, m), odd = _mm_mul_epu32(_mm_srli_epi64(x, 32), m);
    return _mm_unpacklo_epi32(_mm_shuffle_epi32(even, 0x08), _mm_shuffle_epi32(odd, 0x08));
}
MTL__VECTOR mtl__vec mtl__where_not_below(mtl__uints w, uint32_t limit, mtl__vec y)
{
    const __m128i below = _mm_cmpgt_epi32(_mm_set1_epi32((int)limit), _mm_srli_epi32(w, 8));
    return _mm_andnot_ps(_mm_castsi128_ps(below), y);
}
MTL__VECTOR void mtl__add_squares(mtl__vec x, double *sums)
{
    const __m128d low = _mm_cvtps_pd(x), high = _mm_cvtps_pd(_mm_movehl_ps(x, x));
    _mm_storeu_pd(sums, _mm_add_pd(_mm_mul_pd(low, low), _mm_loadu_pd(sums)));
    _mm_storeu_pd(sums + 2, _mm_add_pd(_mm_mul_pd(high, high), _mm_loadu_pd(sums + 2)));
}
MTL__VECTOR float mtl__lanes_sum(mtl__vec x)
{
    const __m128 s = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
}
MTL__VECTOR float mtl__lanes_max(mtl__vec x)
{
    const __m128 s = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_shuffle_ps(s, s, 1)));
}

#elif MTL__STAMP == 5   /* NEON of 64-bit ARM: 32 registers of 4 */
#define MTL__LANES 4
#define MTL__TILE_SUMS 24
#define MTL__TILE_ROWS 6

typedef float32x4_t mtl__vec;
MTL__VECTOR uint32x4_t MTL__FN(mtl__bits)(mtl__vec x) { return vreinterpretq_u32_f32(x); }
MTL__VECTOR mtl__vec MTL__FN(mtl__masked)(uint32x4_t mask, mtl__vec x)
{
    return vreinterpretq_f32_u32(vandq_u32(mask, MTL__FN(mtl__bits)(x)));
}
MTL__VECTOR mtl__vec mtl__all(float x) { return vdupq_n_f32(x); }
MTL__VECTOR mtl__vec mtl__load(const float *p) { return vld1q_f32(p); }
MTL__VECTOR void mtl__store(float *p, mtl__vec x) { vst1q_f32(p, x); }
MTL__VECTOR mtl__vec mtl__add(mtl__vec a, mtl__vec b) { return vaddq_f32(a, b); }
MTL__VECTOR mtl__vec mtl__sub(mtl__vec a, mtl__vec b) { return vsubq_f32(a, b); }
MTL__VECTOR mtl__vec mtl__mul(mtl__vec a, mtl__vec b) { return vmulq_f32(a, b); }
MTL__VECTOR mtl__vec mtl__div(mtl__vec a, mtl__vec b) { return vdivq_f32(a, b); }
MTL__VECTOR mtl__vec mtl__sqrt(mtl__vec a) { return vsqrtq_f32(a); }
MTL__VECTOR mtl__vec mtl__min(mtl__vec a, mtl__vec x) { return vminq_f32(a, x); }
MTL__VECTOR mtl__vec mtl__max(mtl__vec a, mtl__vec x) { return vmaxq_f32(a, x); }
MTL__VECTOR mtl__vec mtl__muladd(mtl__vec a, mtl__vec b, mtl__vec c) { return vfmaq_f32(c, a, b); }
MTL__VECTOR mtl__vec mtl__submul(mtl__vec a, mtl__vec b, mtl__vec c) { return vfmsq_f32(c, a, b); }
MTL__VECTOR mtl__vec mtl__where_positive(mtl__vec x, mtl__vec y)
{
    return MTL__FN(mtl__masked)(vcgtq_f32(x, vdupq_n_f32(0)), y);
}
MTL__VECTOR mtl__vec mtl__abs(mtl__vec x) { return vabsq_f32(x); }
MTL__VECTOR mtl__vec mtl__minus_abs(mtl__vec x) { return vnegq_f32(vabsq_f32(x)); }
MTL__VECTOR mtl__vec mtl__with_sign(mtl__vec y, mtl__vec x)
{
    return vbslq_f32(vdupq_n_u32(0x80000000u), x, y);
}
MTL__VECTOR mtl__vec mtl__keep_nan(mtl__vec y, mtl__vec x)
{
    const uint32x4_t nan = vcgtq_u32(MTL__FN(mtl__bits)(vabsq_f32(x)), vdupq_n_u32(0x7f800000u));
    return vbslq_f32(nan, x, y);
}
MTL__VECTOR mtl__vec mtl__hidden(mtl__vec x)
{
    MTL__HIDE(x);
    return x;
}
typedef float32x4_t mtl__power;
MTL__VECTOR mtl__vec mtl__whole(mtl__vec x, float a, mtl__power *power)
{
    const mtl__vec shifter = mtl__all(12583039.0f), sum = mtl__hidden(mtl__muladd(x, mtl__all(a), shifter));
    *power = vreinterpretq_f32_u32(vshlq_n_u32(MTL__FN(mtl__bits)(sum), 23));
    return mtl__hidden(mtl__sub(sum, shifter));
}
MTL__VECTOR mtl__vec mtl__scaled(mtl__vec y, mtl__power power) { return mtl__mul(y, power); }
MTL__VECTOR void mtl__transpose(const float *from, size_t from_stride, float *to, size_t to_stride)
{
    const float32x4_t a = vld1q_f32(from), b = vld1q_f32(from + from_stride);
    const float32x4_t c = vld1q_f32(from + 2 * from_stride), d = vld1q_f32(from + 3 * from_stride);
    const float32x4x2_t ab = vtrnq_f32(a, b), cd = vtrnq_f32(c, d);
    vst1q_f32(to, vcombine_f32(vget_low_f32(ab.val[0]), vget_low_f32(cd.val[0])));
    vst1q_f32(to + to_stride, vcombine_f32(vget_low_f32(ab.val[1]), vget_low_f32(cd.val[1])));
    vst1q_f32(to + 2 * to_stride, vcombine_f32(vget_high_f32(ab.val[0]), vget_high_f32(cd.val[0])));
    vst1q_f32(to + 3 * to_stride, vcombine_f32(vget_high_f32(ab.val[1]), vget_high_f32(cd.val[1])));
}
typedef uint32x4_t mtl__uints;
MTL__VECTOR mtl__uints mtl__uints_from(uint32_t n)
{
    static const uint32_t count[4] = { 0, 1, 2, 3 };
    return vaddq_u32(vdupq_n_u32(n), vld1q_u32(count));
}
MTL__VECTOR mtl__uints mtl__uints_add(mtl__uints x, uint32_t n) { return vaddq_u32(x, vdupq_n_u32(n)); }
MTL__VECTOR mtl__uints mtl__uints_fold(mtl__uints x, int shift)
{
    return veorq_u32(x, vshlq_u32(x, vdupq_n_s32(-shift)));
}
MTL__VECTOR mtl__uints mtl__uints_mul(mtl__uints x, uint32_t n) { return vmulq_u32(x, vdupq_n_u32(n)); }
MTL__VECTOR mtl__vec mtl__where_not_below(mtl__uints w, uint32_t limit, mtl__vec y)
{
    return MTL__FN(mtl__masked)(vcgeq_u32(vshrq_n_u32(w, 8), vdupq_n_u32(limit)), y);
}
MTL__VECTOR void mtl__add_squares(mtl__vec x, double *sums)
{
    const float64x2_t low = vcvt_f64_f32(vget_low_f32(x)), high = vcvt_high_f64_f32(x);
    vst1q_f64(sums, vfmaq_f64(vld1q_f64(sums), low, low));
    vst1q_f64(sums + 2, vfmaq_f64(vld1q_f64(sums + 2), high, high));
}
MTL__VECTOR float mtl__lanes_sum(mtl__vec x) { return vaddvq_f32(x); }
MTL__VECTOR float mtl__lanes_max(mtl__vec x) { return vmaxvq_f32(x); }

#else                   /* scalar: any C compiler, float or double; one lane, loops over the parts of a block
                           stay loops */
#define MTL__LANES 1
#define MTL__TILE_SUMS 64
#define MTL__TILE_ROWS 4

typedef mtl_real mtl__vec;
MTL__VECTOR mtl__vec mtl__all(mtl_real x) { return x; }
MTL__VECTOR mtl__vec mtl__load(const mtl_real *p) { return *p; }
MTL__VECTOR void mtl__store(mtl_real *p, mtl__vec x) { *p = x; }
MTL__VECTOR mtl__vec mtl__add(mtl__vec a, mtl__vec b) { return a + b; }
MTL__VECTOR mtl__vec mtl__sub(mtl__vec a, mtl__vec b) { return a - b; }
MTL__VECTOR mtl__vec mtl__mul(mtl__vec a, mtl__vec b) { return a * b; }
MTL__VECTOR mtl__vec mtl__div(mtl__vec a, mtl__vec b) { return a / b; }
MTL__VECTOR mtl__vec mtl__sqrt(mtl__vec a) { return (mtl_real)sqrt((double)a); }
MTL__VECTOR mtl__vec mtl__min(mtl__vec a, mtl__vec x) { return a < x ? a : x; }
MTL__VECTOR mtl__vec mtl__max(mtl__vec a, mtl__vec x) { return a > x ? a : x; }
MTL__VECTOR mtl__vec mtl__muladd(mtl__vec a, mtl__vec b, mtl__vec c) { return a * b + c; }
MTL__VECTOR mtl__vec mtl__submul(mtl__vec a, mtl__vec b, mtl__vec c) { return c - a * b; }
MTL__VECTOR mtl__vec mtl__where_positive(mtl__vec x, mtl__vec y) { return x > 0 ? y : 0; }
MTL__VECTOR mtl__vec mtl__abs(mtl__vec x) { return x < 0 ? -x : x; }
MTL__VECTOR mtl__vec mtl__minus_abs(mtl__vec x) { return x < 0 ? x : -x; }
MTL__VECTOR mtl__vec mtl__hidden(mtl__vec x)
{
    MTL__HIDE(x);
    return x;
}
#if MTL__REAL_IS_DOUBLE
MTL__VECTOR mtl__vec mtl__with_sign(mtl__vec y, mtl__vec x) { return (x < 0) == (y < 0) ? y : -y; }
MTL__VECTOR mtl__vec mtl__keep_nan(mtl__vec y, mtl__vec x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (bits & 0x7fffffffffffffffu) > 0x7ff0000000000000u ? x : y;
}
#else
MTL__VECTOR uint32_t MTL__FN(mtl__bits)(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
MTL__VECTOR float MTL__FN(mtl__from_bits)(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
MTL__VECTOR mtl__vec mtl__with_sign(mtl__vec y, mtl__vec x)
{
    return MTL__FN(mtl__from_bits)((MTL__FN(mtl__bits)(y) & 0x7fffffffu)
                                   | (MTL__FN(mtl__bits)(x) & 0x80000000u));
}
MTL__VECTOR mtl__vec mtl__keep_nan(mtl__vec y, mtl__vec x)
{
    return (MTL__FN(mtl__bits)(x) & 0x7fffffffu) > 0x7f800000u ? x : y;
}
/* By conversion, not by rounding errors: a compiler may keep more digits than a float has. NaN must not be
   converted, and its n is not used. */
typedef float mtl__power;
MTL__VECTOR mtl__vec mtl__whole(mtl__vec x, float a, mtl__power *power)
{
    const float product = x * a;
    const int n = (MTL__FN(mtl__bits)(product) & 0x7fffffffu) > 0x4a800000u
        ? 0 : (int)(product + (product < 0 ? -0.5f : 0.5f));
    *power = MTL__FN(mtl__from_bits)((uint32_t)(n + 127) << 23);
    return (float)n;
}
MTL__VECTOR mtl__vec mtl__scaled(mtl__vec y, mtl__power power) { return y * power; }
#ifdef MTL__BF16_REFERENCE      /* what AVX512-BF16 does, for tests to compare with: see >>dispatch */
#define MTL__PAIRS 1
MTL__VECTOR uint32_t MTL__FN(mtl__upper_half)(float x)      /* the nearest bfloat16, of two the even one; NaN
                                                               stays NaN */
{
    const uint32_t bits = MTL__FN(mtl__bits)(x);
    return (bits & 0x7fffffffu) > 0x7f800000u ? (bits | 0x400000u) & 0xffff0000u
                                              : (bits + 0x7fffu + (bits >> 16 & 1)) & 0xffff0000u;
}
MTL__VECTOR mtl__vec mtl__pairs_across(mtl__vec x, mtl__vec y)
{
    return MTL__FN(mtl__from_bits)(MTL__FN(mtl__upper_half)(x) >> 16 | MTL__FN(mtl__upper_half)(y));
}
MTL__VECTOR mtl__vec mtl__pairs_along(mtl__vec x, mtl__vec y) { return mtl__pairs_across(x, y); }
MTL__VECTOR mtl__vec mtl__dot_pairs(mtl__vec a, mtl__vec b, mtl__vec c)
{
    const uint32_t x = MTL__FN(mtl__bits)(a), y = MTL__FN(mtl__bits)(b);
    c = mtl__hidden(c + MTL__FN(mtl__from_bits)(x & 0xffff0000u) * MTL__FN(mtl__from_bits)(y & 0xffff0000u));
    return c + MTL__FN(mtl__from_bits)(x << 16) * MTL__FN(mtl__from_bits)(y << 16);
}
#endif
#endif
MTL__VECTOR void mtl__transpose(const mtl_real *from, size_t from_stride, mtl_real *to, size_t to_stride)
{
    (void)from_stride;
    (void)to_stride;
    *to = *from;
}
typedef uint32_t mtl__uints;
MTL__VECTOR mtl__uints mtl__uints_from(uint32_t n) { return n; }
MTL__VECTOR mtl__uints mtl__uints_add(mtl__uints x, uint32_t n) { return x + n; }
MTL__VECTOR mtl__uints mtl__uints_fold(mtl__uints x, int shift) { return x ^ x >> shift; }
MTL__VECTOR mtl__uints mtl__uints_mul(mtl__uints x, uint32_t n) { return x * n; }
MTL__VECTOR mtl__vec mtl__where_not_below(mtl__uints w, uint32_t limit, mtl__vec y)
{
    return w >> 8 >= limit ? y : 0;
}
MTL__VECTOR void mtl__add_squares(mtl__vec x, double *sums) { *sums += (double)x * (double)x; }
MTL__VECTOR mtl_real mtl__lanes_sum(mtl__vec x) { return x; }
MTL__VECTOR mtl_real mtl__lanes_max(mtl__vec x) { return x; }
#endif

#ifndef MTL__PAIRS
#  define MTL__PAIRS 0
#endif
#define MTL__PARTS (MTL__BLOCK / MTL__LANES)
#undef MTL__UNROLLED
#if MTL__LANES > 1
#  define MTL__UNROLLED MTL__UNROLL
#else
#  define MTL__UNROLLED
#endif

#if MTL__LANES <= 4     /* no masked loads: a detour by the stack */
MTL__VECTOR mtl__vec mtl__load_some(const mtl_real *p, size_t n)
{
    mtl_real lanes[MTL__LANES] = { 0 };
    size_t i;
    for (i = 0; i < n; i++) lanes[i] = p[i];
    return mtl__load(lanes);
}
MTL__VECTOR void mtl__store_some(mtl_real *p, mtl__vec x, size_t n)
{
    mtl_real lanes[MTL__LANES];
    size_t i;
    mtl__store(lanes, x);
    for (i = 0; i < n; i++) p[i] = lanes[i];
}
#endif

/* ---- exp, sigmoid, tanh -----------------------------------------------------------------------------------
   x = n log 2 + r with |r| <= log(2)/2, log 2 in two parts of which the first has few bits, so that n times
   it is exact (Cody & Waite 1980); expm1(r) = r + r^2 q(r), q of degree 4 fitted for the least relative
   error, in Estrin's order.
   Errors over all floats: exp 1.1, sigmoid 2.5, tanh 2.6 ulp; below 2^-126, an absolute error of 2^-126. NaN
   gives NaN.    */
#if !MTL__REAL_IS_DOUBLE
/* expm1(m r) / m, where m x = n log 2 + m r. m is a constant, 1, -1 or 2, and only changes constants,
   exactly. */
MTL__VECTOR mtl__vec MTL__FN(mtl__expm1_part)(mtl__vec x, const float m, mtl__vec *n, mtl__power *power)
{
    const mtl__vec whole = *n = mtl__whole(x, m * 1.44269504088896341f, power);
    const mtl__vec rough = mtl__hidden(mtl__submul(whole, mtl__all(0.693145751953125f / m), x));
    const mtl__vec r = mtl__submul(whole, mtl__all(1.42860682030941723e-6f / m), rough),
        square = mtl__mul(r, r);
    const mtl__vec q01 = mtl__muladd(mtl__all(m * m * 1.666654279e-01f), r, mtl__all(m * 5.000000062e-01f));
    const mtl__vec q23 = mtl__muladd(mtl__all(m * m * m * m * 8.366610800e-03f), r,
                                     mtl__all(m * m * m * 4.166628145e-02f));
    const mtl__vec q234 = mtl__muladd(square, mtl__all(m * m * m * m * m * 1.394649331e-03f), q23);
    return mtl__muladd(mtl__muladd(square, q234, q01), square, r);
}

/* 2^n in two factors: either stays in range when 2^n does not. */
MTL__VECTOR mtl__vec MTL__FN(mtl__exp)(mtl__vec x)
{
    mtl__vec n, y, half;
    mtl__power power;
    y = MTL__FN(mtl__expm1_part)(mtl__min(mtl__all(89.0f), mtl__max(mtl__all(-104.0f), x)), 1, &n, &power);
    y = mtl__add(y, mtl__all(1.0f));
    half = mtl__whole(n, 0.5f, &power);
    y = mtl__hidden(mtl__scaled(y, power));
    mtl__whole(mtl__sub(n, half), 1, &power);
    return MTL__KEEP_NAN(mtl__scaled(y, power), x);
}

/* exp(x) for x <= 0, as softmax needs it: one factor is enough when what is below 2^-126 may be 0. At -88, n
   = -127, which makes the factor 0 (or the result smaller than 2^-126). */
MTL__VECTOR mtl__vec MTL__FN(mtl__exp_fall)(mtl__vec x)
{
    mtl__vec n, y;
    mtl__power power;
    y = MTL__FN(mtl__expm1_part)(mtl__max(mtl__all(-88.0f), x), 1, &n, &power);
    return MTL__KEEP_NAN(mtl__scaled(mtl__add(y, mtl__all(1.0f)), power), x);
}

/* 1 / (1 + exp(-x)). Below -88 the exact value is within 2^-126 of that at -88; from 17 on it is 1. */
MTL__VECTOR mtl__vec MTL__FN(mtl__sigmoid)(mtl__vec x)
{
    const mtl__vec one = mtl__all(1.0f);
    mtl__vec n, e;
    mtl__power power;
    e = MTL__FN(mtl__expm1_part)(mtl__min(mtl__all(30.0f), mtl__max(mtl__all(-88.0f), x)), -1, &n, &power);
    e = mtl__scaled(mtl__sub(one, e), power);
    return MTL__KEEP_NAN(mtl__div(one, mtl__add(one, e)), x);
}

/* -h / (1 + h) with x's sign, h = expm1(-2|x|) / 2: no cancellation near 0. From 9.02 on it is 1. */
MTL__VECTOR mtl__vec MTL__FN(mtl__tanh)(mtl__vec x)
{
    mtl__vec n, scale, h;
    mtl__power power;
    h = MTL__FN(mtl__expm1_part)(mtl__max(mtl__all(-10.0f), mtl__minus_abs(x)), 2, &n, &power);
    scale = mtl__scaled(mtl__all(1.0f), power);
    h = mtl__muladd(h, scale, mtl__hidden(mtl__muladd(scale, mtl__all(0.5f), mtl__all(-0.5f))));
    return MTL__KEEP_NAN(mtl__with_sign(mtl__div(h, mtl__add(h, mtl__all(1.0f))), x), x);
}
#else
MTL__VECTOR mtl__vec MTL__FN(mtl__exp)(mtl__vec x) { return exp(x); }
MTL__VECTOR mtl__vec MTL__FN(mtl__exp_fall)(mtl__vec x) { return exp(x); }
MTL__VECTOR mtl__vec MTL__FN(mtl__sigmoid)(mtl__vec x) { return 1.0 / (1.0 + exp(-x)); }
MTL__VECTOR mtl__vec MTL__FN(mtl__tanh)(mtl__vec x) { return tanh(x); }
#endif

/* f(x) of an activation; unknown numbers are the identity. */
MTL__VECTOR mtl__vec MTL__FN(mtl__activation)(int activation, mtl__vec x)
{
    if (activation == MTL_ACTIVATION_TANH) return MTL__FN(mtl__tanh)(x);
    if (activation == MTL_ACTIVATION_SIGMOID) return MTL__FN(mtl__sigmoid)(x);
    if (activation == MTL_ACTIVATION_RELU) return MTL__KEEP_NAN(mtl__max(mtl__all(0), x), x);
    return x;
}

/* dx = dy f'(x), of y = f(x): tanh 1 - y^2, sigmoid y (1 - y), relu 1 where y > 0. */
MTL__VECTOR mtl__vec MTL__FN(mtl__activation_slope)(int activation, mtl__vec y, mtl__vec dy)
{
    if (activation == MTL_ACTIVATION_TANH) return mtl__mul(dy, mtl__submul(y, y, mtl__all(1)));
    if (activation == MTL_ACTIVATION_SIGMOID) return mtl__mul(dy, mtl__submul(y, y, y));
    if (activation == MTL_ACTIVATION_RELU) return mtl__where_positive(y, dy);
    return dy;
}

/* ---- whole arrays -----------------------------------------------------------------------------------------
   Element-wise over n contiguous reals; the last, partial vector is loaded and stored lane by lane. Bound:
   memory, except activate and exponential (20 to 30 operations per vector). */
MTL__KERNEL void MTL__FN(mtl__activate)(int activation, size_t n, const mtl_real *x, mtl_real *y)
{
    size_t i;
    for (i = 0; i + MTL__LANES <= n; i += MTL__LANES)
        mtl__store(y + i, MTL__FN(mtl__activation)(activation, mtl__load(x + i)));
    if (i < n) mtl__store_some(y + i, MTL__FN(mtl__activation)(activation, mtl__load_some(x + i, n - i)),
                               n - i);
}

MTL__KERNEL void MTL__FN(mtl__activate_backward)(int activation, size_t n, const mtl_real *y,
                                                 const mtl_real *dy, mtl_real *dx)
{
    size_t i;
    for (i = 0; i + MTL__LANES <= n; i += MTL__LANES)
        mtl__store(dx + i, MTL__FN(mtl__activation_slope)(activation, mtl__load(y + i), mtl__load(dy + i)));
    if (i < n)
        mtl__store_some(dx + i,
                        MTL__FN(mtl__activation_slope)(activation, mtl__load_some(y + i, n - i),
                                                       mtl__load_some(dy + i, n - i)),
                        n - i);
}

MTL__KERNEL void MTL__FN(mtl__exponential)(size_t n, const mtl_real *x, mtl_real *y)
{
    size_t i;
    for (i = 0; i + MTL__LANES <= n; i += MTL__LANES) mtl__store(y + i, MTL__FN(mtl__exp)(mtl__load(x + i)));
    if (i < n) mtl__store_some(y + i, MTL__FN(mtl__exp)(mtl__load_some(x + i, n - i)), n - i);
}

/* x *= a */
MTL__KERNEL void MTL__FN(mtl__scale)(size_t n, mtl_real a, mtl_real *x)
{
    const mtl__vec factor = mtl__all(a);
    size_t i;
    for (i = 0; i + MTL__LANES <= n; i += MTL__LANES) mtl__store(x + i, mtl__mul(factor, mtl__load(x + i)));
    if (i < n) mtl__store_some(x + i, mtl__mul(factor, mtl__load_some(x + i, n - i)), n - i);
}

/* y += share (x - y): a running average of x. Bound: memory. */
MTL__KERNEL void MTL__FN(mtl__approach)(size_t n, mtl_real share, const mtl_real *x, mtl_real *y)
{
    const mtl__vec factor = mtl__all(share);
    size_t i;
    for (i = 0; i + MTL__LANES <= n; i += MTL__LANES) {
        const mtl__vec old = mtl__load(y + i);
        mtl__store(y + i, mtl__muladd(factor, mtl__sub(mtl__load(x + i), old), old));
    }
    if (i < n) {
        const mtl__vec old = mtl__load_some(y + i, n - i);
        mtl__store_some(y + i, mtl__muladd(factor, mtl__sub(mtl__load_some(x + i, n - i), old), old), n - i);
    }
}

/* n reals, at most a vector. */
MTL__VECTOR mtl__vec MTL__FN(mtl__load_n)(const mtl_real *p, size_t n)
{
    return n == MTL__LANES ? mtl__load(p) : mtl__load_some(p, n);
}
MTL__VECTOR void MTL__FN(mtl__store_n)(mtl_real *p, mtl__vec x, size_t n)
{
    if (n == MTL__LANES) mtl__store(p, x);
    else mtl__store_some(p, x, n);
}

/* `vectors` (a constant) vectors of mtl__add_rows, the last of them `last` reals wide. */
MTL__VECTOR void MTL__FN(mtl__add_rows_part)(const size_t vectors, size_t last, size_t count, const int *rows,
                                             mtl__vec factor, const mtl_real *x, size_t stride, int add,
                                                 mtl_real *y)
{
    mtl__vec sum[4];
    size_t v, k;
#define MTL__WIDTH(v) ((v) + 1 < vectors ? (size_t)MTL__LANES : last)
    MTL__UNROLLED
    for (v = 0; v < vectors; v++) sum[v] = add ? MTL__FN(mtl__load_n)(y + v * MTL__LANES, MTL__WIDTH(v))
        : mtl__all(0);
    for (k = 0; k < count; k++) {
        const mtl_real *row = x + (size_t)rows[k] * stride;
        MTL__UNROLLED
        for (v = 0; v < vectors; v++)
            sum[v] = mtl__muladd(factor, MTL__FN(mtl__load_n)(row + v * MTL__LANES, MTL__WIDTH(v)), sum[v]);
    }
    MTL__UNROLLED
    for (v = 0; v < vectors; v++) MTL__FN(mtl__store_n)(y + v * MTL__LANES, sum[v], MTL__WIDTH(v));
#undef MTL__WIDTH
}

/* y (+)= a * sum over i < count of x[rows[i]], rows in the order of the list: a row of an embedding's
   gradient. Bound: memory. */
MTL__KERNEL void MTL__FN(mtl__add_rows)(size_t n, size_t count, const int *rows, mtl_real a,
                                        const mtl_real *x, size_t stride, int add, mtl_real *y)
{
    const mtl__vec factor = mtl__all(a);
    size_t i;
    for (i = 0; i + 4 * MTL__LANES <= n; i += 4 * MTL__LANES)
        MTL__FN(mtl__add_rows_part)(4, MTL__LANES, count, rows, factor, x + i, stride, add, y + i);
    for (; i < n; i += MTL__LANES)
        MTL__FN(mtl__add_rows_part)(1, mtl__at_most(n - i, MTL__LANES), count, rows, factor, x + i, stride,
                                    add, y + i);
}

/* y += a x */
MTL__KERNEL void MTL__FN(mtl__add_scaled)(size_t n, mtl_real a, const mtl_real *x, mtl_real *y)
{
    const mtl__vec factor = mtl__all(a);
    size_t i;
    for (i = 0; i + MTL__LANES <= n; i += MTL__LANES)
        mtl__store(y + i, mtl__muladd(factor, mtl__load(x + i), mtl__load(y + i)));
    if (i < n) mtl__store_some(y + i, mtl__muladd(factor, mtl__load_some(x + i, n - i),
                                                  mtl__load_some(y + i, n - i)), n - i);
}

/* y += a b, element by element */
MTL__KERNEL void MTL__FN(mtl__multiply_add)(size_t n, const mtl_real *a, const mtl_real *b, mtl_real *y)
{
    size_t i;
    for (i = 0; i + MTL__LANES <= n; i += MTL__LANES)
        mtl__store(y + i, mtl__muladd(mtl__load(a + i), mtl__load(b + i), mtl__load(y + i)));
    if (i < n)
        mtl__store_some(
            y + i, mtl__muladd(mtl__load_some(a + i, n - i), mtl__load_some(b + i, n - i),
                               mtl__load_some(y + i, n - i)), n - i);
}

/* y = the larger of x and y, element by element */
MTL__KERNEL void MTL__FN(mtl__maximum)(size_t n, const mtl_real *x, mtl_real *y)
{
    size_t i;
    for (i = 0; i + MTL__LANES <= n; i += MTL__LANES)
        mtl__store(y + i, mtl__max(mtl__load(x + i), mtl__load(y + i)));
    if (i < n) mtl__store_some(y + i, mtl__max(mtl__load_some(x + i, n - i), mtl__load_some(y + i, n - i)),
                               n - i);
}

/* y is the largest of several arrays, of which x is one. Where x reaches it, dx (+)= left and left becomes 0;
   elsewhere dx (+)= 0. So with left = dy at first, of equals the first one that this is called for gets
   dy. */
MTL__VECTOR mtl__vec MTL__FN(mtl__maximum_rest)(mtl__vec x, mtl__vec y, mtl__vec left)
{
    return mtl__where_positive(mtl__sub(y, x), left);
}
MTL__KERNEL void MTL__FN(mtl__maximum_backward)(size_t n, const mtl_real *x, const mtl_real *y,
                                                mtl_real *left, int accumulate, mtl_real *dx)
{
    size_t i;
    for (i = 0; i + MTL__LANES <= n; i += MTL__LANES) {
        const mtl__vec g = mtl__load(left + i), rest = MTL__FN(mtl__maximum_rest)(mtl__load(x + i),
                                                                                  mtl__load(y + i), g);
        const mtl__vec d = mtl__hidden(mtl__sub(g, rest));      /* g or 0, before anything is added */
        mtl__store(left + i, rest);
        mtl__store(dx + i, accumulate ? mtl__add(mtl__load(dx + i), d) : d);
    }
    if (i < n) {
        const mtl__vec g = mtl__load_some(left + i, n - i);
        const mtl__vec rest = MTL__FN(mtl__maximum_rest)(mtl__load_some(x + i, n - i),
                                                         mtl__load_some(y + i, n - i), g);
        mtl__vec d = mtl__hidden(mtl__sub(g, rest));
        if (accumulate) d = mtl__add(mtl__load_some(dx + i, n - i), d);
        mtl__store_some(left + i, rest, n - i);
        mtl__store_some(dx + i, d, n - i);
    }
}

/* Sum of x^2 in double: 16 sums, of the elements whose numbers agree modulo 16, added in order. The square of
   a float is exact in double, so every instruction set gives the same bits. Bound: memory. */
MTL__KERNEL double MTL__FN(mtl__sum_squares)(size_t n, const mtl_real *x)
{
    double sums[MTL__BLOCK] = { 0 }, total = 0;
    size_t i, part;
    for (i = 0; i + MTL__BLOCK <= n; i += MTL__BLOCK) {
        MTL__UNROLLED
        for (part = 0; part < MTL__PARTS; part++)
            mtl__add_squares(mtl__load(x + i + part * MTL__LANES), sums + part * MTL__LANES);
    }
    for (; i < n; i++) sums[i % MTL__BLOCK] += (double)x[i] * (double)x[i];
    for (i = 0; i < MTL__BLOCK; i++) total += sums[i];
    return total;
}

/* sums[k] = sum of x y[k] for k < 4, of arrays of a few thousand elements: longer ones would need sums in
   double. x is loaded once for all four. Bound: reading L1. */
MTL__KERNEL void MTL__FN(mtl__dots)(size_t n, const mtl_real *x, const mtl_real *const *y, double *sums)
{
    mtl__vec part[4];
    size_t i, k;
    MTL__UNROLLED
    for (k = 0; k < 4; k++) part[k] = mtl__all(0);
    for (i = 0; i + MTL__LANES <= n; i += MTL__LANES) {
        const mtl__vec value = mtl__load(x + i);
        MTL__UNROLLED
        for (k = 0; k < 4; k++) part[k] = mtl__muladd(value, mtl__load(y[k] + i), part[k]);
    }
    for (k = 0; k < 4; k++) {
        if (i < n) part[k] = mtl__muladd(mtl__load_some(x + i, n - i), mtl__load_some(y[k] + i, n - i),
                                         part[k]);
        sums[k] = (double)mtl__lanes_sum(part[k]);
    }
}

/* ---- rows ---------------------------------------------------------------------------------------------- */

/* The largest of a row, at least the first element. */
MTL__VECTOR mtl_real MTL__FN(mtl__row_max)(size_t width, const mtl_real *x)
{
    mtl__vec best = mtl__all(x[0]);
    mtl_real largest;
    size_t i;
    for (i = 0; i + MTL__LANES <= width; i += MTL__LANES) best = mtl__max(best, mtl__load(x + i));
    largest = mtl__lanes_max(best);
    for (; i < width; i++) largest = x[i] > largest ? x[i] : largest;
    return largest;
}

/* The first n lanes of x, the others 0. */
MTL__VECTOR mtl__vec MTL__FN(mtl__first_lanes)(mtl__vec x, size_t n)
{
    mtl_real lanes[MTL__LANES];
    mtl__store(lanes, x);
    return mtl__load_some(lanes, n);
}

/* p = exp(x - largest) / sum, per row. Two passes over the row, which stays in L1. Bound: exp, about 20
   operations per vector. */
MTL__KERNEL void MTL__FN(mtl__softmax)(const mtl__softmax *s, size_t row_begin, size_t row_end)
{
    const size_t whole = s->classes / MTL__LANES * MTL__LANES, rest = s->classes - whole;
    size_t row, i;
    for (row = row_begin; row < row_end; row++) {
        const mtl_real *x = s->x + row * s->x_stride;
        mtl_real *p = s->p + row * s->p_stride;
        const mtl__vec largest = mtl__all(MTL__FN(mtl__row_max)(s->classes, x));
        mtl__vec sums = mtl__all(0);
        for (i = 0; i < whole; i += MTL__LANES) {
            const mtl__vec e = MTL__FN(mtl__exp_fall)(mtl__sub(mtl__load(x + i), largest));
            mtl__store(p + i, e);
            sums = mtl__add(sums, e);
        }
        if (rest) {
            mtl__store_some(p + whole, MTL__FN(mtl__exp_fall)(mtl__sub(mtl__load_some(x + whole, rest),
                                                                       largest)), rest);
            sums = mtl__add(sums, mtl__load_some(p + whole, rest));
        }
        MTL__FN(mtl__scale)(s->classes, 1 / mtl__lanes_sum(sums), p);
    }
}

/* Sum of exp(x - largest) of a row. */
MTL__VECTOR mtl_real MTL__FN(mtl__row_exp_sum)(size_t width, const mtl_real *x, mtl_real largest)
{
    const mtl__vec offset = mtl__all(largest);
    mtl__vec sums = mtl__all(0);
    size_t i;
    for (i = 0; i + MTL__LANES <= width; i += MTL__LANES)
        sums = mtl__add(sums, MTL__FN(mtl__exp_fall)(mtl__sub(mtl__load(x + i), offset)));
    if (i < width) {
        const mtl__vec e = MTL__FN(mtl__exp_fall)(mtl__sub(mtl__load_some(x + i, width - i), offset));
        sums = mtl__add(sums, MTL__FN(mtl__first_lanes)(e, width - i));
    }
    return mtl__lanes_sum(sums);
}

/* The coefficients of a row, without what a label adds to its own class: a = w (keep q + spread). Where there
   is no q, and where there is no w, the same vector of zeros or ones is read all along. */
typedef struct MTL__FN(mtl__coefficients) {
    const mtl_real *q, *w;
    size_t q_step, w_step;                      /* 1, or 0 */
    mtl__vec keep, spread;
} MTL__FN(mtl__coefficients);

MTL__VECTOR MTL__FN(mtl__coefficients) MTL__FN(mtl__row_coefficients)(const mtl__cross_entropy *p, size_t row)
{
    MTL__FN(mtl__coefficients) a;
    a.q = p->q ? p->q + (size_t)p->items[row] * p->classes : mtl__zeros;
    a.w = p->w ? p->w : mtl__ones;
    a.q_step = p->q != NULL;
    a.w_step = p->w != NULL;
    a.keep = mtl__all(1 - p->smoothing);
    a.spread = mtl__all(p->smoothing / (mtl_real)p->classes);
    return a;
}

/* ... of the n <= LANES classes from i on; lanes past n are 0. */
MTL__VECTOR mtl__vec MTL__FN(mtl__coefficients_at)(const MTL__FN(mtl__coefficients) *a, size_t i, size_t n)
{
    const mtl_real *q = a->q + i * a->q_step, *w = a->w + i * a->w_step;
    if (n < MTL__LANES) return mtl__mul(mtl__load_some(w, n),
                                        mtl__muladd(a->keep, mtl__load_some(q, n), a->spread));
    return mtl__mul(mtl__load(w), mtl__muladd(a->keep, mtl__load(q), a->spread));
}

/* What a row's label adds to the coefficient of its class. */
MTL__VECTOR mtl_real MTL__FN(mtl__label_coefficient)(const mtl__cross_entropy *p, int label)
{
    return (1 - p->smoothing) * (p->w ? p->w[label] : 1);
}

/* Sum of a row's coefficients, and of a (x - largest). */
MTL__VECTOR mtl_real MTL__FN(mtl__coefficient_sums)(const mtl__cross_entropy *p, size_t row, mtl_real largest,
                                                    mtl_real *weighted)
{
    const mtl_real *x = p->x + row * p->x_stride;
    mtl_real sum = 0;
    *weighted = 0;
    if (p->q || p->smoothing != 0) {
        const MTL__FN(mtl__coefficients) a = MTL__FN(mtl__row_coefficients)(p, row);
        const mtl__vec offset = mtl__all(largest);
        mtl__vec sums = mtl__all(0), products = mtl__all(0);
        size_t i;
        for (i = 0; i < p->classes; i += MTL__LANES) {
            const size_t n = mtl__at_most(p->classes - i, MTL__LANES);
            const mtl__vec here = MTL__FN(mtl__coefficients_at)(&a, i, n);
            const mtl__vec value = n < MTL__LANES ? mtl__load_some(x + i, n) : mtl__load(x + i);
            sums = mtl__add(sums, here);
            products = mtl__muladd(here, mtl__sub(value, offset), products);
        }
        sum = mtl__lanes_sum(sums);
        *weighted = mtl__lanes_sum(products);
    }
    if (p->labels) {
        const int label = p->labels[p->items[row]];
        const mtl_real a = MTL__FN(mtl__label_coefficient)(p, label);
        sum += a;
        *weighted += a * (x[label] - largest);
    }
    return sum;
}

/* loss = (sum a) log(sum exp(x - largest)) - sum a (x - largest), per row. Bound: exp. */
MTL__KERNEL void MTL__FN(mtl__cross_entropy_forward)(const mtl__cross_entropy *p, size_t row_begin,
                                                     size_t row_end)
{
    size_t row;
    for (row = row_begin; row < row_end; row++) {
        const mtl_real *x = p->x + row * p->x_stride, largest = MTL__FN(mtl__row_max)(p->classes, x);
        mtl_real *saved = p->saved + row * 3, weighted;
        saved[0] = largest;
        saved[1] = MTL__FN(mtl__row_exp_sum)(p->classes, x, largest);
        saved[2] = MTL__FN(mtl__coefficient_sums)(p, row, largest, &weighted);
        p->loss[row] = (double)saved[2] * log((double)saved[1]) - (double)weighted;
    }
}

/* dx (+)= factor ((sum a) exp(x - largest) / sum - a), per row. Bound: exp. */
MTL__KERNEL void MTL__FN(mtl__cross_entropy_backward)(const mtl__cross_entropy *p, size_t row_begin,
                                                      size_t row_end)
{
    const int soft = p->q || p->smoothing != 0;
    size_t row, i;
    for (row = row_begin; row < row_end; row++) {
        const mtl_real *x = p->x + row * p->x_stride, *saved = p->saved + row * 3;
        const MTL__FN(mtl__coefficients) a = MTL__FN(mtl__row_coefficients)(p, row);
        const mtl__vec offset = mtl__all(saved[0]), scale = mtl__all(p->factor * saved[2] / saved[1]),
            factor = mtl__all(p->factor);
        mtl_real *dx = p->dx + row * p->dx_stride;
        for (i = 0; i < p->classes; i += MTL__LANES) {
            const size_t n = mtl__at_most(p->classes - i, MTL__LANES);
            const mtl__vec value = n < MTL__LANES ? mtl__load_some(x + i, n) : mtl__load(x + i);
            mtl__vec d = mtl__mul(scale, MTL__FN(mtl__exp_fall)(mtl__sub(value, offset)));
            if (soft) d = mtl__submul(factor, MTL__FN(mtl__coefficients_at)(&a, i, n), d);
            if (p->accumulate) d = mtl__add(d, n < MTL__LANES
                                            ? mtl__load_some(dx + i, n) : mtl__load(dx + i));
            if (n < MTL__LANES) mtl__store_some(dx + i, d, n);
            else mtl__store(dx + i, d);
        }
        if (p->labels) {
            const int label = p->labels[p->items[row]];
            dx[label] -= p->factor * MTL__FN(mtl__label_coefficient)(p, label);
        }
    }
}

/* 32 bits of (row's words, column), by the "lowbias32" mixer (Wellons 2018) with the second half put in
   half-way. */
MTL__VECTOR mtl__uints MTL__FN(mtl__dropout_uints)(const uint32_t half[2], size_t column)
{
    mtl__uints w = mtl__uints_add(mtl__uints_mul(mtl__uints_from((uint32_t)column), 0x9e3779b9u), half[0]);
    w = mtl__uints_add(mtl__uints_mul(mtl__uints_fold(w, 16), 0x21f0aaadu), half[1]);
    w = mtl__uints_mul(mtl__uints_fold(w, 15), 0xd35a2d97u);
    return mtl__uints_fold(w, 15);
}

/* y (+)= x / (1 - rate) where the upper 24 random bits are at least rate * 2^24, else 0. Bound: about 15
   operations per vector. */
MTL__KERNEL void MTL__FN(mtl__dropout)(const mtl__dropout *d, size_t row_begin, size_t row_end)
{
    const size_t whole = d->width / MTL__LANES * MTL__LANES, rest = d->width - whole;
    const uint32_t limit = (uint32_t)((double)d->rate * 16777216.0);
    const mtl__vec factor = mtl__all(1 / (1 - d->rate)), zero = mtl__all(0);
    size_t row, i;
    for (row = row_begin; row < row_end; row++) {
        const mtl_real *x = d->x + row * d->x_stride;
        mtl_real *y = d->y + row * d->y_stride;
        uint32_t half[2];
        mtl__dropout_row(d, row, half);
        for (i = 0; i < whole; i += MTL__LANES) {
            const mtl__vec kept =
                mtl__where_not_below(MTL__FN(mtl__dropout_uints)(half, i), limit,
                                     mtl__mul(factor, mtl__load(x + i)));
            mtl__store(y + i, mtl__add(kept, d->accumulate ? mtl__load(y + i) : zero));
        }
        if (rest) {
            const mtl__vec kept =
                mtl__where_not_below(MTL__FN(mtl__dropout_uints)(half, i), limit,
                                     mtl__mul(factor, mtl__load_some(x + i, rest)));
            mtl__store_some(y + i, mtl__add(kept, d->accumulate ? mtl__load_some(y + i, rest) : zero), rest);
        }
    }
}

/* ---- packing ----------------------------------------------------------------------------------------------
   Both directions of the layouts at the head of this section. Bound: memory (each element is read and written
   once). */

/* to[column][row] = from[row][column] for 16 x 16 */
MTL__KERNEL void MTL__FN(mtl__transpose_block)(const mtl_real *from, size_t from_stride, mtl_real *to,
                                               size_t to_stride)
{
    size_t row, column;
    for (row = 0; row < MTL__BLOCK; row += MTL__LANES)
        for (column = 0; column < MTL__BLOCK; column += MTL__LANES)
            mtl__transpose(from + row * from_stride + column, from_stride, to + column * to_stride + row,
                           to_stride);
}

/* W [gates*units][inputs] to [block][gate][input][16 units] */
MTL__KERNEL void MTL__FN(mtl__pack_forward)(size_t gates, size_t units, size_t inputs, const mtl_real *w,
                                            mtl_real *packed)
{
    size_t first, gate, input, u;
    for (first = 0; first < units; first += MTL__BLOCK)
        for (gate = 0; gate < gates; gate++, packed += inputs * MTL__BLOCK) {
            const mtl_real *from = w + (gate * units + first) * inputs;
            const size_t here = mtl__at_most(units - first, MTL__BLOCK);
            input = 0;
            if (here == MTL__BLOCK)
                for (; input + MTL__BLOCK <= inputs; input += MTL__BLOCK)
                    MTL__FN(mtl__transpose_block)(from + input, inputs, packed + input * MTL__BLOCK,
                                                  MTL__BLOCK);
            for (; input < inputs; input++)
                for (u = 0; u < MTL__BLOCK; u++) packed[input * MTL__BLOCK + u] = u < here
                    ? from[u * inputs + input] : 0;
        }
}

/* W [gates'*units][inputs] to [input block][block][gate][16 units][16 inputs]; slot g holds gate order[g] of
   W, or g itself. */
MTL__KERNEL void MTL__FN(mtl__pack_backward)(size_t gates, size_t units, size_t inputs, const mtl_real *w,
                                             const int *order, mtl_real *packed)
{
    size_t column, first, gate, u, part;
    for (column = 0; column < inputs; column += MTL__BLOCK) {
        const size_t width = mtl__at_most(inputs - column, MTL__BLOCK);
        for (first = 0; first < units; first += MTL__BLOCK)
            for (gate = 0; gate < gates; gate++) {
                const mtl_real *from = w + ((order ? (size_t)order[gate] : gate) * units + first) * inputs
                    + column;
                for (u = 0; u < MTL__BLOCK; u++, from += inputs, packed += MTL__BLOCK) {
                    if (width < MTL__BLOCK || first + u >= units)
                        memset(packed, 0, MTL__BLOCK * sizeof *packed);
                    if (first + u >= units) continue;
                    if (width < MTL__BLOCK) { memcpy(packed, from, width * sizeof *packed); continue; }
                    MTL__UNROLLED
                    for (part = 0; part < MTL__BLOCK; part += MTL__LANES)
                        mtl__store(packed + part, mtl__load(from + part));
                }
            }
    }
}

#if MTL__PAIRS
/* n neighbouring reals to (n+1)/2 pairs; of an odd number the last with 0. */
MTL__KERNEL void MTL__FN(mtl__round_row)(size_t n, const mtl_real *x, mtl_real *pairs)
{
    size_t i;
    for (i = 0; i + 2 * MTL__LANES <= n; i += 2 * MTL__LANES)
        mtl__store(pairs + i / 2, mtl__pairs_along(mtl__load(x + i), mtl__load(x + i + MTL__LANES)));
    if (i < n) {
        const size_t low = mtl__at_most(n - i, MTL__LANES), high = n - i - low;
        const mtl__vec y = high ? mtl__load_some(x + i + low, high) : mtl__all(0);
        mtl__store_some(pairs + i / 2, mtl__pairs_along(mtl__load_some(x + i, low), y), (low + high + 1) / 2);
    }
}

/* Two rows of `width` reals, at most 16, to 16 pairs; either row may be NULL, a row of zeros. */
MTL__VECTOR void MTL__FN(mtl__round_rows)(size_t width, const mtl_real *x, const mtl_real *y, mtl_real *pairs)
{
    size_t part;
    MTL__UNROLLED
    for (part = 0; part < MTL__BLOCK; part += MTL__LANES) {
        const size_t n = width < part ? 0 : mtl__at_most(width - part, MTL__LANES);
        const mtl__vec zero = mtl__all(0);
        if (n == MTL__LANES && x && y) mtl__store(pairs + part, mtl__pairs_across(mtl__load(x + part),
                                                                                  mtl__load(y + part)));
        else
            mtl__store(pairs + part, mtl__pairs_across(x && n ? mtl__load_some(x + part, n) : zero,
                                                       y && n ? mtl__load_some(y + part, n) : zero));
    }
}

/* W [gates*units][inputs] to pairs [block][gate][input/2][16 units]: rows are rounded, then pairs change
   places as reals do. */
MTL__KERNEL void MTL__FN(mtl__pack_pairs_forward)(size_t gates, size_t units, size_t inputs,
                                                  const mtl_real *w, mtl_real *packed)
{
    MTL__ALIGN64 mtl_real rows[MTL__BLOCK * MTL__BLOCK], columns[MTL__BLOCK * MTL__BLOCK];
    const size_t pairs = (inputs + 1) / 2;
    size_t first, gate, pair, i;
    for (first = 0; first < units; first += MTL__BLOCK)
        for (gate = 0; gate < gates; gate++, packed += pairs * MTL__BLOCK)
            for (pair = 0; pair < pairs; pair += MTL__BLOCK) {
                const mtl_real *from = w + (gate * units + first) * inputs + 2 * pair;
                const size_t here = mtl__at_most(units - first, MTL__BLOCK);
                if (here < MTL__BLOCK) memset(rows, 0, sizeof rows);
                for (i = 0; i < here; i++)
                    MTL__FN(mtl__round_row)(mtl__at_most(inputs - 2 * pair, 2 * MTL__BLOCK),
                                            from + i * inputs, rows + i * MTL__BLOCK);
                MTL__FN(mtl__transpose_block)(rows, MTL__BLOCK, columns, MTL__BLOCK);
                memcpy(packed + pair * MTL__BLOCK, columns,
                       mtl__at_most(pairs - pair, MTL__BLOCK) * MTL__BLOCK * sizeof *packed);
            }
}

/* W [gates'*units][inputs] to pairs [input block][block][gate][8 pairs of units][16 inputs]; order as in
   pack_backward. */
MTL__KERNEL void MTL__FN(mtl__pack_pairs_backward)(size_t gates, size_t units, size_t inputs,
                                                   const mtl_real *w, const int *order, mtl_real *packed)
{
    size_t column, first, gate, u;
    for (column = 0; column < inputs; column += MTL__BLOCK)
        for (first = 0; first < units; first += MTL__BLOCK)
            for (gate = 0; gate < gates; gate++) {
                const mtl_real *from = w + (order ? (size_t)order[gate] : gate) * units * inputs + column;
                for (u = first; u < first + MTL__BLOCK; u += 2, packed += MTL__BLOCK)
                    MTL__FN(mtl__round_rows)(mtl__at_most(inputs - column, MTL__BLOCK), u < units
                                             ? from + u * inputs : NULL, u + 1 < units
                                                 ? from + (u + 1) * inputs : NULL, packed);
            }
}
#endif

/* ---- products ---------------------------------------------------------------------------------------------
   One multiply-add loop serves all: a tile of a few rows by a few blocks of 16 columns, whose sums stay in
   registers while k runs. Per step of k it loads the blocks' vectors of b once and each row's element of a
   once, so a tile of 6 x 4 vectors does 24 multiply-adds for 4 loads and 6 broadcasts. Bound: multiply-adds;
   with few rows, reading b. */

/* c + a*b, or of pairs. */
MTL__VECTOR mtl__vec MTL__FN(mtl__accumulate)(const int pairs, mtl__vec a, mtl__vec b, mtl__vec c)
{
#if MTL__PAIRS
    if (pairs) return mtl__dot_pairs(a, b, c);
#else
    (void)pairs;
#endif
    return mtl__muladd(a, b, c);
}

/* rows, blocks, transposed and pairs are constants where this is inlined. Few sums cannot cover the latency
   of a multiply-add, so then `split` neighbouring steps of k get sums of their own, added at the end.
   Transposed tiles of 16 units have sums enough, and pairs are for large batches: neither is split, for the
   sake of size. */
MTL__VECTOR void MTL__FN(mtl__tile_sum)(const size_t rows, const size_t blocks, const int transposed,
                                        const int pairs, const mtl__tile *t)
{
    const size_t width = blocks * MTL__PARTS, sums = rows * width;
    const size_t split = MTL__LANES == 1 || transposed || pairs || sums >= 8 ? 1 : sums >= 4 ? 2 : sums >= 2
        ? 4 : 8;
    const size_t a_row = t->a_row, a_step = pairs ? t->a_step : transposed ? t->a_row : 1,
        b_block = t->b_block, b_step = MTL__BLOCK,
                 length = t->length, next_step = t->next_step;
    const int add = t->start == MTL__START_ADD, bias = t->start == MTL__START_BIAS;
    const mtl_real *from = add ? t->c : bias ? t->bias : mtl__zeros, *b = t->b, *next = t->next;
    size_t from_row = add ? t->c_row : 0, from_block = add ? t->c_block : bias ? (size_t)MTL__BLOCK : 0;
    size_t c_row, c_block;
    mtl_real *c;
    mtl__vec sum[MTL__TILE_SUMS];
    size_t chunk, k, row, v, s;
#define MTL__A(row, s) (transposed ? a[(s) * a_row + (row)] : (row) < 3 ? a[(row) * a_row + (s) * a_step] \
                       : a3[((row) - 3) * a_row + (s) * a_step])
#define MTL__B(base, v) ((base) + (v) / MTL__PARTS * b_block + (v) % MTL__PARTS * MTL__LANES)

    MTL__FORGET(from);                                  /* one way for all three starts */
    MTL__FORGET(from_row);
    MTL__FORGET(from_block);
    MTL__UNROLLED
    for (row = 0; row < rows; row++, from += from_row) {
        MTL__UNROLLED
        for (v = 0; v < width; v++)
            sum[row * width + v] = mtl__load(from + v / MTL__PARTS * from_block + v % MTL__PARTS
                                             * MTL__LANES);
    }
    MTL__UNROLLED
    for (v = sums; v < split * sums; v++) sum[v] = mtl__all(0);
    for (chunk = 0; chunk < t->chunks; chunk++) {
        const mtl_real *a = t->a + chunk * t->a_chunk, *a3 = a + 3 * a_row, *end = a + length * a_step, *b2;
        k = 0;
        if (split > 1)
            for (; k + split <= length;
                 k += split, b += split * b_step, a += split * a_step, a3 += split * a_step) {
                MTL__UNROLLED
                for (s = 0; s < split; s++) {
                    MTL__UNROLLED
                    for (row = 0; row < rows; row++) {
                        const mtl__vec x = mtl__all(MTL__A(row, s));
                        MTL__UNROLLED
                        for (v = 0; v < width; v++)
                            sum[(s * rows + row) * width + v] =
                                MTL__FN(mtl__accumulate)(pairs, x, mtl__load(MTL__B(b + s * b_step, v)),
                                                         sum[(s * rows + row) * width + v]);
                    }
                }
            }
        b2 = b + 2 * b_block;
        for (; a != end; b += b_step, b2 += b_step, a += a_step, a3 += a_step) {
            if (rows >= MTL__TILE_FETCHES && !transposed) {
                MTL__UNROLLED
                for (v = 0; v < blocks; v++) MTL__PREFETCH_FAR(next + v * b_block);
                next += next_step;
            }
            MTL__UNROLLED
            for (row = 0; row < rows; row++) {
                const mtl__vec x = mtl__all(MTL__A(row, 0));
                MTL__UNROLLED
                for (v = 0; v < width; v++)
                    sum[row * width + v] = MTL__FN(mtl__accumulate)(
                        pairs, x, mtl__load(v / MTL__PARTS < 2
                                            ? MTL__B(b, v) : MTL__B(b2, v - 2 * MTL__PARTS)),
                        sum[row * width + v]);
            }
        }
    }
    MTL__UNROLLED
    for (s = 1; s < split; s++) {
        MTL__UNROLLED
        for (v = 0; v < sums; v++) sum[v] = mtl__add(sum[v], sum[s * sums + v]);
    }
    c = t->c;                                           /* copies: to the compiler, a store of a vector may
                                                           change *t */
    c_row = t->c_row;
    c_block = t->c_block;
    MTL__FORGET(c);
    MTL__FORGET(c_row);
    MTL__FORGET(c_block);
    MTL__UNROLLED
    for (row = 0; row < rows; row++, c += c_row) {
        MTL__UNROLLED
        for (v = 0; v < width; v++)
            mtl__store(c + v / MTL__PARTS * c_block + v % MTL__PARTS * MTL__LANES, sum[row * width + v]);
    }
#undef MTL__A
#undef MTL__B
}

/* The shapes that fit the registers: at most TILE_SUMS vectors, TILE_ROWS rows and 4 blocks. */
#define MTL__TILE_FITS(rows, blocks) ((rows) <= MTL__TILE_ROWS && \
    (rows) * (blocks) * MTL__PARTS <= MTL__TILE_SUMS)
#define MTL__TILE_CASE(rows, blocks, transposed, pairs) \
    case (rows) * 4 + (blocks): \
        if (MTL__TILE_FITS(rows, blocks)) MTL__FN(mtl__tile_sum)(rows, blocks, transposed, pairs, t); \
        break;
#define MTL__TILE_CASES(rows, transposed, pairs) \
    MTL__TILE_CASE(rows, 1, transposed, pairs) MTL__TILE_CASE(rows, 2, transposed, pairs) \
    MTL__TILE_CASE(rows, 3, transposed, pairs) MTL__TILE_CASE(rows, 4, transposed, pairs)
#define MTL__TILE_KERNEL(name, transposed, pairs) \
    MTL__KERNEL void MTL__FN(name)(size_t rows, size_t blocks, const mtl__tile *t) \
    { \
        switch (rows * 4 + blocks) { \
        MTL__TILE_CASES(1, transposed, pairs) MTL__TILE_CASES(2, transposed, pairs) \
        MTL__TILE_CASES(3, transposed, pairs) MTL__TILE_CASES(4, transposed, pairs) \
        MTL__TILE_CASES(5, transposed, pairs) MTL__TILE_CASES(6, transposed, pairs) \
        default: MTL__ASSERT(0); \
        } \
    }
MTL__TILE_KERNEL(mtl__tile_plain, 0, 0)
MTL__TILE_KERNEL(mtl__tile_transposed, 1, 0)
#if MTL__PAIRS
MTL__TILE_KERNEL(mtl__tile_pairs, 0, 1)
#endif

/* A tile that fits the registers. */
MTL__VECTOR void MTL__FN(mtl__tile_held)(size_t rows, size_t blocks, int transposed, const mtl__tile *t)
{
#if MTL__PAIRS
    if (t->pairs) {
        MTL__FN(mtl__tile_pairs)(rows, blocks, t);
        return;
    }
#endif
    if (transposed) MTL__FN(mtl__tile_transposed)(rows, blocks, t);
    else MTL__FN(mtl__tile_plain)(rows, blocks, t);
}

/* The columns past the last whole block: through a copy, since no more than `columns` of them may be
   touched. */
MTL__VECTOR void MTL__FN(mtl__tile_partial)(size_t rows, size_t columns, int transposed,
                                            const mtl__tile *whole)
{
    MTL__ALIGN64 mtl_real copy[MTL__TILE_ROWS * MTL__BLOCK];
    mtl__tile t = *whole;
    size_t row, j;
    for (row = 0; row < rows && t.start == MTL__START_ADD; row++)
        for (j = 0; j < MTL__BLOCK; j++) copy[row * MTL__BLOCK + j] = j < columns
            ? whole->c[row * whole->c_row + j] : 0;
    t.c = copy;
    t.c_row = MTL__BLOCK;
    MTL__FN(mtl__tile_held)(rows, 1, transposed, &t);
    for (row = 0; row < rows; row++)
        for (j = 0; j < columns; j++) whole->c[row * whole->c_row + j] = copy[row * MTL__BLOCK + j];
}

/* Blocks that tiles of so many rows hold. */
MTL__VECTOR size_t MTL__FN(mtl__tile_blocks)(size_t rows)
{
    const size_t sums = mtl__at_most(rows, MTL__TILE_ROWS) * MTL__PARTS;
    return sums * 4 <= MTL__TILE_SUMS ? 4 : sums * 3 <= MTL__TILE_SUMS ? 3 : sums * 2 <= MTL__TILE_SUMS
        ? 2 : 1;
}

/* A product of any size, cut into tiles of even sizes (16 rows as 6 5 5, five blocks as 3 2). All rows pass
   one group of blocks, as many as a tile holds, before the next group, so that their part of b stays near.
   Each of the tiles fetches its share of the next group's part, evenly over k: weights from beyond the
   second-level cache come in time. */
MTL__KERNEL void MTL__FN(mtl__multiply)(size_t rows, size_t columns, int transposed, const mtl__tile *whole)
{
    const size_t blocks = columns / MTL__BLOCK, rest = columns % MTL__BLOCK,
        held = MTL__FN(mtl__tile_blocks)(rows);
    const size_t groups = (blocks + held - 1) / held, tiles = (rows + MTL__TILE_ROWS - 1) / MTL__TILE_ROWS;
    mtl__tile group, t;
    size_t g, i;
    if (groups == 1 && !rest && rows < MTL__TILE_FETCHES) {     /* what a step of one sequence consists of */
        MTL__FN(mtl__tile_held)(rows, blocks, transposed, whole);
        return;
    }
    group = *whole;
    for (g = 0; g < groups + (rest > 0); g++) {
        const size_t here = g == groups ? 1 : blocks / groups + (g < blocks % groups);
        t = group;
        for (i = 0; i < tiles; i++) {
            const size_t height = rows / tiles + (i < rows % tiles);
            t.next = group.b + here * group.b_block + i * t.chunks * t.length * MTL__BLOCK / tiles;
            t.next_step = (MTL__BLOCK + tiles - 1) / tiles;
            if (g == groups) MTL__FN(mtl__tile_partial)(height, rest, transposed, &t);
            else MTL__FN(mtl__tile_held)(height, here, transposed, &t);
            t.a += transposed ? height : height * t.a_row;
            t.c += height * t.c_row;
        }
        group.b += here * group.b_block;
        group.c += here * group.c_block;
        if (group.bias) group.bias += here * MTL__BLOCK;
    }
}

/* Steps of k in one go: 16 columns of b, and a tile's rows of a, stay in L1. */
#define MTL__DEPTH 256

/* A product of any size and depth, MTL__DEPTH steps of k after the other: all rows and columns pass the first
   ones, then the next. */
MTL__KERNEL void MTL__FN(mtl__multiply_deep)(size_t rows, size_t columns, const mtl__tile *whole)
{
    const size_t chunks = whole->chunks, length = whole->length;
    const size_t most_chunks = chunks == 1 || length > MTL__DEPTH ? 1 : MTL__DEPTH / length;
    size_t chunk, k;
    mtl__tile t = *whole;
    for (chunk = 0; chunk < chunks; chunk += most_chunks)
        for (k = 0; k < length || k == 0; k += MTL__DEPTH) {
            t.chunks = mtl__at_most(chunks - chunk, most_chunks);
            t.length = mtl__at_most(length - k, MTL__DEPTH);
            t.a = whole->a + chunk * whole->a_chunk + k;
            MTL__FN(mtl__multiply)(rows, columns, 0, &t);
            t.b += t.chunks * t.length * MTL__BLOCK;
            t.start = MTL__START_ADD;
        }
}

/* The part of z = x . W^T + bias that k = [first, first + length) gives, of `inputs` in all, for rows from
   `row` on. t holds the left operand and its length; W is packed. The rows pass through one block of W after
   the other. */
MTL__KERNEL void MTL__FN(mtl__product_forward_part)(const mtl__product_forward *p, size_t row, size_t rows,
                                                    size_t first, size_t inputs, const mtl__tile *left)
{
    const size_t width = p->gates * MTL__BLOCK, blocks = mtl__blocks(p->units);
    size_t block;
    mtl__tile t = *left;
    t.chunks = 1;
    t.start = first || p->accumulate ? MTL__START_ADD : p->bias ? MTL__START_BIAS : MTL__START_ZERO;
    t.b = p->packed + first * MTL__BLOCK;
    t.b_block = inputs * MTL__BLOCK;
    t.c = p->z + row * p->z_row;
    t.c_row = p->z_row;
    t.bias = t.start == MTL__START_BIAS ? p->bias : NULL;
    if (p->gates == 1) {                                /* column blocks are blocks of units */
        t.c_block = p->z_block;
        MTL__FN(mtl__multiply)(rows, p->exact ? p->units : blocks * MTL__BLOCK, 0, &t);
        return;
    }
    t.c_block = MTL__BLOCK;                             /* column blocks are gates of one block */
    for (block = 0; block < blocks; block++) {
        MTL__FN(mtl__multiply)(rows, width, 0, &t);
        t.b += inputs * width;
        t.c += p->z_block;
        if (t.bias) t.bias += width;
    }
}

#if MTL__PAIRS
/* In pairs: x is rounded first, once for all units. */
MTL__KERNEL void MTL__FN(mtl__product_forward_pairs)(const mtl__product_forward *p, size_t row, size_t rows)
{
    MTL__ALIGN64 mtl_real pairs[MTL__ROWS * MTL__PAIRS_DEPTH];
    const size_t inputs = (p->inputs + 1) / 2;
    size_t first, i;
    mtl__tile t;
    memset(&t, 0, sizeof t);
    t.pairs = 1;
    t.a = pairs;
    t.a_row = MTL__PAIRS_DEPTH;
    t.a_step = 1;
    for (first = 0; first < inputs || first == 0; first += MTL__PAIRS_DEPTH) {
        const size_t reals = mtl__at_most(p->inputs - 2 * first, 2 * MTL__PAIRS_DEPTH);
        for (i = 0; i < rows; i++)
            MTL__FN(mtl__round_row)(reals, p->x + (row + i) * p->x_stride + 2 * first,
                                    pairs + i * MTL__PAIRS_DEPTH);
        t.length = (reals + 1) / 2;
        MTL__FN(mtl__product_forward_part)(p, row, rows, first, inputs, &t);
    }
}
#endif

/* z = x . W^T + bias, for rows from `row` on, at most MTL__ROWS: see mtl__product_forward. x is read as it
   is. Bound: multiply-adds. */
MTL__KERNEL void MTL__FN(mtl__product_forward_rows)(const mtl__product_forward *p, size_t row, size_t rows)
{
    size_t first;
    mtl__tile t;
#if MTL__PAIRS
    if (p->pairs) {
        MTL__FN(mtl__product_forward_pairs)(p, row, rows);
        return;
    }
#endif
    memset(&t, 0, sizeof t);
    t.a_row = p->x_stride;
    for (first = 0; first < p->inputs || first == 0; first += MTL__DEPTH) {
        t.length = mtl__at_most(p->inputs - first, MTL__DEPTH);
        t.a = p->x + row * p->x_stride + first;
        MTL__FN(mtl__product_forward_part)(p, row, rows, first, p->inputs, &t);
    }
}

MTL__KERNEL void MTL__FN(mtl__product_forward)(const mtl__product_forward *p, size_t row_begin,
                                               size_t row_end)
{
    size_t rows;
    for (; row_begin < row_end; row_begin += rows) {
        rows = mtl__product_rows(row_end - row_begin);
        MTL__FN(mtl__product_forward_rows)(p, row_begin, rows);
    }
}

#if MTL__PAIRS
/* `rows` rows of dz to pairs, each row one run: `blocks` blocks of `width` reals that lie dz_block apart. */
MTL__KERNEL void MTL__FN(mtl__round_blocks)(size_t rows, size_t blocks, size_t width, const mtl_real *dz,
                                            size_t dz_row, size_t dz_block, mtl_real *pairs, size_t pairs_row)
{
    size_t row, block;
    for (row = 0; row < rows; row++)
        for (block = 0; block < blocks; block++)
            MTL__FN(mtl__round_row)(width, dz + row * dz_row + block * dz_block,
                                    pairs + row * pairs_row + block * (width / 2));
}

/* In pairs: as many blocks at a time as MTL__PAIRS_DEPTH pairs hold are rounded, once for all inputs. */
MTL__KERNEL void MTL__FN(mtl__product_backward_pairs)(const mtl__product_backward *p, size_t row, size_t rows)
{
    MTL__ALIGN64 mtl_real pairs[MTL__ROWS * MTL__PAIRS_DEPTH];
    const size_t blocks = mtl__blocks(p->units), block_pairs = p->gates * MTL__BLOCK / 2;
    const size_t most = MTL__PAIRS_DEPTH / block_pairs;
    size_t first;
    mtl__tile t;
    memset(&t, 0, sizeof t);
    t.pairs = 1;
    t.chunks = 1;
    t.a = pairs;
    t.a_row = MTL__PAIRS_DEPTH;
    t.a_step = 1;
    t.b_block = blocks * block_pairs * MTL__BLOCK;
    t.c = p->dx + row * p->dx_stride;
    t.c_row = p->dx_stride;
    t.c_block = MTL__BLOCK;
    for (first = 0; first < blocks; first += most) {
        const size_t here = mtl__at_most(blocks - first, most), unit = first * MTL__BLOCK;
        if (p->exact) {                                 /* row-major dz: one run, of which no more than
                                                           `units` are read */
            const size_t reals = mtl__at_most(p->units - unit, here * MTL__BLOCK);
            MTL__FN(mtl__round_blocks)(rows, 1, reals, p->dz + row * p->dz_row + unit, p->dz_row, 0, pairs,
                                       t.a_row);
            t.length = (reals + 1) / 2;
        } else {
            const mtl_real *dz = p->dz + row * p->dz_row + first * p->dz_block;
            MTL__FN(mtl__round_blocks)(rows, here, p->gates * MTL__BLOCK, dz, p->dz_row, p->dz_block, pairs,
                                       t.a_row);
            t.length = here * block_pairs;
        }
        t.start = first || p->accumulate ? MTL__START_ADD : MTL__START_ZERO;
        t.b = p->packed + first * block_pairs * MTL__BLOCK;
        MTL__FN(mtl__multiply)(rows, p->inputs, 0, &t);
    }
}
#endif

/* dx = dz . W, for rows [row_begin, row_end): see mtl__product_backward. k runs through the gate groups of a
   block, then the next block; row-major dz is one run. Bound: multiply-adds. */
MTL__KERNEL void MTL__FN(mtl__product_backward_rows)(const mtl__product_backward *p, size_t row, size_t rows)
{
    const size_t blocks = mtl__blocks(p->units);
    mtl__tile t;
#if MTL__PAIRS
    if (p->pairs) {
        MTL__FN(mtl__product_backward_pairs)(p, row, rows);
        return;
    }
#endif
    memset(&t, 0, sizeof t);
    t.chunks = p->exact ? 1 : blocks;
    t.length = p->exact ? p->units : p->gates * MTL__BLOCK;
    t.a = p->dz + row * p->dz_row;
    t.a_row = p->dz_row;
    t.a_chunk = p->dz_block;
    t.b = p->packed;
    t.b_block = blocks * p->gates * MTL__BLOCK * MTL__BLOCK;
    t.c = p->dx + row * p->dx_stride;
    t.c_row = p->dx_stride;
    t.c_block = MTL__BLOCK;
    t.start = p->accumulate ? MTL__START_ADD : MTL__START_ZERO;
    MTL__FN(mtl__multiply_deep)(rows, p->inputs, &t);
}

MTL__KERNEL void MTL__FN(mtl__product_backward)(const mtl__product_backward *p, size_t row_begin,
                                                size_t row_end)
{
    size_t rows;
    for (; row_begin < row_end; row_begin += rows) {
        rows = mtl__product_rows(row_end - row_begin);
        MTL__FN(mtl__product_backward_rows)(p, row_begin, rows);
    }
}

/* Row `row` of x, or of where `source` points; NULL: a row of zeros. */
MTL__VECTOR const mtl_real *MTL__FN(mtl__panel_row)(const mtl__product_weights *p, size_t row)
{
    const int source = p->source ? p->source[row] : (int)row;
    return source >= 0 ? p->x + (size_t)source * p->x_stride : p->x0
        ? p->x0 + (size_t)~source * p->x0_stride : NULL;
}

/* Columns [column, column + width) of rows [first, first + rows) as [block][row][16], zero-padded: contiguous
   in the order in which the product reads them, however wide x is. */
MTL__KERNEL void MTL__FN(mtl__pack_panel)(const mtl__product_weights *p, size_t first, size_t rows,
                                          size_t column, size_t width, mtl_real *panel)
{
    size_t row, block, part;
    for (row = 0; row < rows; row++) {
        const mtl_real *x = MTL__FN(mtl__panel_row)(p, first + row);
        for (block = 0; block < width; block += MTL__BLOCK) {
            mtl_real *to = panel + (block * rows + row * MTL__BLOCK);
            if (!x || width - block < MTL__BLOCK) {
                memset(to, 0, MTL__BLOCK * sizeof *to);
                if (x) memcpy(to, x + column + block, (width - block) * sizeof *to);
                continue;
            }
            MTL__UNROLLED
            for (part = 0; part < MTL__BLOCK; part += MTL__LANES)
                mtl__store(to + part, mtl__load(x + column + block + part));
        }
    }
}

#if MTL__PAIRS
/* The same in pairs [block][pair of rows][16]. */
MTL__KERNEL void MTL__FN(mtl__pack_panel_pairs)(const mtl__product_weights *p, size_t first, size_t rows,
                                                size_t column, size_t width, mtl_real *panel)
{
    const size_t pairs = (rows + 1) / 2;
    size_t row, block;
    for (row = 0; row < rows; row += 2) {
        const mtl_real *x = MTL__FN(mtl__panel_row)(p, first + row), *y = row + 1 < rows
            ? MTL__FN(mtl__panel_row)(p, first + row + 1) : NULL;
        for (block = 0; block < width; block += MTL__BLOCK)
            MTL__FN(mtl__round_rows)(mtl__at_most(width - block, MTL__BLOCK), x ? x + column + block : NULL,
                                     y ? y + column + block : NULL,
                                         panel + block * pairs + row / 2 * MTL__BLOCK);
    }
}

/* One gate of a block of dz, `units` wide, to pairs [pair of rows][16]. */
MTL__KERNEL void MTL__FN(mtl__round_gate)(size_t rows, size_t units, const mtl_real *dz, size_t dz_row,
                                          mtl_real *pairs)
{
    size_t row;
    for (row = 0; row < rows; row += 2, dz += 2 * dz_row, pairs += MTL__BLOCK)
        MTL__FN(mtl__round_rows)(units, dz, row + 1 < rows ? dz + dz_row : NULL, pairs);
}
#endif

/* One block of dz, `units` wide, as [row][16]: where rows are pages apart, each would take a place of its own
   in the table of pages. */
MTL__KERNEL void MTL__FN(mtl__pack_far)(size_t rows, size_t units, const mtl_real *dz, size_t dz_row,
                                        mtl_real *packed)
{
    size_t row, part;
    for (row = 0; row < rows; row++, dz += dz_row, packed += MTL__BLOCK) {
        if (units < MTL__BLOCK) { memcpy(packed, dz, units * sizeof *packed); continue; }
        MTL__UNROLLED
        for (part = 0; part < MTL__BLOCK; part += MTL__LANES) mtl__store(packed + part, mtl__load(dz + part));
    }
}

/* Where slot `gate` of a block begins in dW. */
MTL__VECTOR mtl_real *MTL__FN(mtl__weights_at)(const mtl__product_weights *p, size_t block, size_t gate)
{
    return p->dw + ((p->order ? (size_t)p->order[gate] : gate) * p->units + block * MTL__BLOCK) * p->inputs;
}

/* Fetches the part of dW that comes next, while its predecessor is worked on: it may have left the caches
   since the last rows. */
MTL__VECTOR void MTL__FN(mtl__prefetch_weights)(const mtl__product_weights *p, size_t block, size_t gate,
                                                size_t column, size_t width)
{
    const size_t units = mtl__at_most(p->units - block * MTL__BLOCK, MTL__BLOCK);
    const mtl_real *to = MTL__FN(mtl__weights_at)(p, block, gate) + column;
    size_t u, j;
    for (u = 0; u < units; u++, to += p->inputs)
        for (j = 0; j < width; j += MTL__BLOCK) MTL__PREFETCH(to + j, 1);
}

/* dW of the blocks [block_begin, block_end) for one panel of inputs: dz is read as it is, 16 units of a gate
   and row at a time; or rounded or copied, 16 units of a gate at a time. */
MTL__KERNEL void MTL__FN(mtl__product_weights_panel)(const mtl__product_weights *p, size_t panel,
                                                     size_t block_begin, size_t block_end, mtl_real *scratch)
{
    const size_t column = panel * mtl__panel_width(p),
        width = mtl__at_most(p->inputs - column, mtl__panel_width(p));
    size_t first = 0, block, gate;
    mtl_real *packed;
    mtl__tile t;
    memset(&t, 0, sizeof t);
    t.chunks = 1;
    t.pairs = p->pairs;
    t.a_row = p->pairs ? 1 : mtl__weights_far(p) ? (size_t)MTL__BLOCK : p->dz_row;
    t.a_step = MTL__BLOCK;
    t.b = scratch;
    t.c_row = p->inputs;
    t.c_block = MTL__BLOCK;
    do {                                                /* once even without rows: dW then is zero */
        const size_t rows = mtl__at_most(p->rows - first, MTL__PANEL_ROWS);
        t.length = rows;
#if MTL__PAIRS
        if (p->pairs) {
            t.length = (rows + 1) / 2;
            MTL__FN(mtl__pack_panel_pairs)(p, first, rows, column, width, scratch);
        } else
#endif
            MTL__FN(mtl__pack_panel)(p, first, rows, column, width, scratch);
        packed = scratch + t.length * mtl__panel_width(p);
        t.b_block = t.length * MTL__BLOCK;
        t.start = first || p->accumulate ? MTL__START_ADD : MTL__START_ZERO;
        for (block = block_begin; block < block_end; block++) {
            const size_t unit = block * MTL__BLOCK, units = mtl__at_most(p->units - unit, MTL__BLOCK);
            for (gate = 0; gate < p->gates; gate++) {
                t.a = p->dz + block * p->dz_block + first * p->dz_row + gate * MTL__BLOCK;
#if MTL__PAIRS
                if (p->pairs) {
                    MTL__FN(mtl__round_gate)(rows, units, t.a, p->dz_row, packed);
                    t.a = packed;
                }
#endif
                if (!p->pairs && mtl__weights_far(p)) {
                    MTL__FN(mtl__pack_far)(rows, units, t.a, p->dz_row, packed);
                    t.a = packed;
                }
                if (gate + 1 < p->gates) MTL__FN(mtl__prefetch_weights)(p, block, gate + 1, column, width);
                else if (block + 1 < block_end) MTL__FN(mtl__prefetch_weights)(p, block + 1, 0, column,
                                                                               width);
                t.c = MTL__FN(mtl__weights_at)(p, block, gate) + column;
                MTL__FN(mtl__multiply)(units, width, !p->pairs, &t);
            }
        }
        first += rows;
    } while (first < p->rows);
}

/* dW (+)= dz^T . x, for units of work [unit_begin, unit_end): see mtl__product_weights and mtl__weight_units.
   Bound: multiply-adds. */
MTL__KERNEL void MTL__FN(mtl__product_weights)(const mtl__product_weights *p, size_t unit_begin,
                                               size_t unit_end, mtl_real *scratch)
{
    const size_t blocks = mtl__blocks(p->units);
    while (unit_begin < unit_end) {
        const size_t block = unit_begin % blocks, left = unit_end - unit_begin;
        const size_t here = mtl__at_most(left, blocks - block);
        MTL__FN(mtl__product_weights_panel)(p, unit_begin / blocks, block, block + here, scratch);
        unit_begin += here;
    }
}

/* One block's sums over rows, for a constant number of gates at a time. */
MTL__VECTOR void MTL__FN(mtl__column_sums_block)(const size_t gates, size_t rows, const mtl_real *dz,
                                                 size_t dz_row, mtl_real *sums)
{
    mtl__vec sum[4 * MTL__PARTS];
    size_t row, v;
    MTL__UNROLLED
    for (v = 0; v < gates * MTL__PARTS; v++) sum[v] = mtl__all(0);
    for (row = 0; row < rows; row++, dz += dz_row) {
        MTL__UNROLLED
        for (v = 0; v < gates * MTL__PARTS; v++) sum[v] = mtl__add(sum[v], mtl__load(dz + v * MTL__LANES));
    }
    MTL__UNROLLED
    for (v = 0; v < gates * MTL__PARTS; v++) mtl__store(sums + v * MTL__LANES, sum[v]);
}

/* db[order[g]*H + u] (+)= sum over rows of dz. Bound: reading dz. */
MTL__KERNEL void MTL__FN(mtl__column_sums)(const mtl__product_weights *p, mtl_real *db)
{
    MTL__ALIGN64 mtl_real sums[4 * MTL__BLOCK];
    size_t first, row, gate, u;
    for (first = 0; first < p->units; first += MTL__BLOCK) {
        const mtl_real *dz = p->dz + first / MTL__BLOCK * p->dz_block;
        const size_t here = mtl__at_most(p->units - first, MTL__BLOCK);
        if (p->exact && here < MTL__BLOCK) {            /* the columns behind belong to somebody else */
            memset(sums, 0, sizeof sums);
            for (row = 0; row < p->rows; row++)
                for (u = 0; u < here; u++) sums[u] += dz[row * p->dz_row + u];
        } else if (p->gates == 1) MTL__FN(mtl__column_sums_block)(1, p->rows, dz, p->dz_row, sums);
        else if (p->gates == 2) MTL__FN(mtl__column_sums_block)(2, p->rows, dz, p->dz_row, sums);
        else if (p->gates == 3) MTL__FN(mtl__column_sums_block)(3, p->rows, dz, p->dz_row, sums);
        else MTL__FN(mtl__column_sums_block)(4, p->rows, dz, p->dz_row, sums);
        for (gate = 0; gate < p->gates; gate++) {
            mtl_real *to = db + (p->order ? (size_t)p->order[gate] : gate) * p->units + first;
            for (u = 0; u < here; u++) to[u] = (p->accumulate ? to[u] : 0) + sums[gate * MTL__BLOCK + u];
        }
    }
}

/* ---- cells, element-wise ----------------------------------------------------------------------------------
   On one block of 16 units of a few rows. Forward is in two loops, since each alone is a short chain of
   dependent operations of which many rows are in flight at once: gates first, then what needs tanh of their
   result. Bound: 5 (LSTM) or 3 (GRU) times about 25 operations per vector.

   Above each function stand its equations in the order of the code. z_i is what comes in for gate i, dz_i its
   gradient; h' and c' are the states of the step before. Slopes are made from values, submul(a, b, c) being
   c - a b: sigmoid's i(1 - i) is submul(i, i, i), tanh's 1 - g^2 is submul(g, g, one). */
#define MTL__EACH_VECTOR(rows) \
    for (row = 0; row < (rows); row++) \
        MTL__UNROLLED \
        for (at = 0; at < MTL__BLOCK; at += MTL__LANES)

/* i = sigmoid(z_i)    f = sigmoid(z_f)    g = tanh(z_g)    o = sigmoid(z_o)    c = f c' + i g
   s = tanh(c)    h = o s */
MTL__KERNEL void MTL__FN(mtl__lstm_forward)(const mtl__cell_block *block, int keep)
{
    const mtl__cell_block b = *block;
    size_t row, at;
    MTL__EACH_VECTOR(b.rows) {
        mtl_real *z = b.z + row * b.z_row + at;
        const mtl__vec i = MTL__FN(mtl__sigmoid)(mtl__load(z + MTL__LSTM_I));
        const mtl__vec f = MTL__FN(mtl__sigmoid)(mtl__load(z + MTL__LSTM_F));
        const mtl__vec g = MTL__FN(mtl__tanh)(mtl__load(z + MTL__LSTM_G));
        const mtl__vec o = MTL__FN(mtl__sigmoid)(mtl__load(z + MTL__LSTM_O));
        mtl__store(b.c + row * b.c_row + at, mtl__muladd(f, mtl__load(b.c_before + row * b.c_before_row + at),
                                                         mtl__mul(i, g)));
        mtl__store(z + MTL__LSTM_O, o);
        if (keep) {
            mtl__store(z + MTL__LSTM_I, i);
            mtl__store(z + MTL__LSTM_F, f);
            mtl__store(z + MTL__LSTM_G, g);
        }
    }
    MTL__EACH_VECTOR(b.rows) {
        const mtl__vec s = MTL__FN(mtl__tanh)(mtl__load(b.c + row * b.c_row + at));
        mtl__store(b.h + row * b.h_row + at, mtl__mul(mtl__load(b.z + row * b.z_row + MTL__LSTM_O + at), s));
        if (keep) mtl__store(b.extra + row * b.extra_row + at, s);
    }
}

/* dh = dy + carried dh
   dc = carried dc + dh o (1 - s^2)
   dc carried on = dc f
   dz_i = dc g i(1 - i)    dz_f = dc c' f(1 - f)    dz_g = dc i (1 - g^2)    dz_o = dh s o(1 - o)
   The caller carries on dh = dz W_hh. */
MTL__KERNEL void MTL__FN(mtl__lstm_backward)(const mtl__cell_block *block)
{
    const mtl__cell_block b = *block;
    const mtl__vec one = mtl__all(1);
    size_t row, at;
    MTL__EACH_VECTOR(b.rows) {
        const mtl_real *z = b.z + row * b.z_row + at;
        mtl_real *dz = b.dz + row * b.dz_row + at, *carry = b.dc + row * b.dh_row + at;
        const mtl__vec i = mtl__load(z + MTL__LSTM_I), f = mtl__load(z + MTL__LSTM_F);
        const mtl__vec g = mtl__load(z + MTL__LSTM_G), o = mtl__load(z + MTL__LSTM_O);
        const mtl__vec s = mtl__load(b.extra + row * b.extra_row + at);
        const mtl__vec dh = mtl__add(mtl__load(b.dy + row * b.dy_row + at),
                                     mtl__load(b.dh + row * b.dh_row + at));
        const mtl__vec dc = mtl__muladd(mtl__mul(dh, o), mtl__submul(s, s, one), mtl__load(carry));
        const mtl__vec c_before = mtl__load(b.c_before + row * b.c_before_row + at);
        mtl__store(carry, mtl__mul(dc, f));
        mtl__store(dz + MTL__LSTM_I, mtl__mul(mtl__mul(dc, g), mtl__submul(i, i, i)));
        mtl__store(dz + MTL__LSTM_F, mtl__mul(mtl__mul(dc, c_before), mtl__submul(f, f, f)));
        mtl__store(dz + MTL__LSTM_G, mtl__mul(mtl__mul(dc, i), mtl__submul(g, g, one)));
        mtl__store(dz + MTL__LSTM_O, mtl__mul(mtl__mul(dh, s), mtl__submul(o, o, o)));
    }
}

/* r = sigmoid(s_r + z_r)    u = sigmoid(s_u + z_u)    m = s_n + b_n
   n = tanh(z_n + r m)    h = n + u (h' - n)
   s = W_hh h': [row][gate][16] with stride s_row, or zeros with stride 0. bias, b_n: the same for all rows
   (stride 0), or not. */
MTL__KERNEL void MTL__FN(mtl__gru_forward)(const mtl__cell_block *block, const mtl_real *s, size_t s_row,
                                           const mtl_real *bias, size_t bias_row, int keep)
{
    const mtl__cell_block b = *block;
    size_t row, at;
    MTL__EACH_VECTOR(b.rows) {
        const mtl_real *from = s + row * s_row + at;
        mtl_real *z = b.z + row * b.z_row + at;
        const mtl__vec r = MTL__FN(mtl__sigmoid)(mtl__add(mtl__load(from + MTL__GRU_R),
                                                          mtl__load(z + MTL__GRU_R)));
        const mtl__vec u = MTL__FN(mtl__sigmoid)(mtl__add(mtl__load(from + MTL__GRU_U),
                                                          mtl__load(z + MTL__GRU_U)));
        const mtl__vec m = mtl__add(mtl__load(from + MTL__GRU_N), mtl__load(bias + row * bias_row + at));
        if (keep) {
            mtl__store(b.extra + row * b.extra_row + at, m);
            mtl__store(z + MTL__GRU_R, r);
        }
        mtl__store(z + MTL__GRU_U, u);
        mtl__store(z + MTL__GRU_N, mtl__muladd(r, m, mtl__load(z + MTL__GRU_N)));
    }
    MTL__EACH_VECTOR(b.rows) {
        mtl_real *z = b.z + row * b.z_row + at;
        const mtl__vec n = MTL__FN(mtl__tanh)(mtl__load(z + MTL__GRU_N));
        const mtl__vec away = mtl__sub(mtl__load(b.h_before + row * b.h_before_row + at), n);
        if (keep) mtl__store(z + MTL__GRU_N, n);
        mtl__store(b.h + row * b.h_row + at, mtl__muladd(mtl__load(z + MTL__GRU_U), away, n));
    }
}

/* dh = dy + carried dh
   du = dh (h' - n)    dn = dh (1 - u) (1 - n^2)    dr = dn m
   dh carried on = dh u, to which the caller adds (dz_r dz_u dm) W_hh
   dz_n = dn    dz_r = dr r(1 - r)    dz_u = du u(1 - u)    dm = dn r */
MTL__KERNEL void MTL__FN(mtl__gru_backward)(const mtl__cell_block *block)
{
    const mtl__cell_block b = *block;
    const mtl__vec one = mtl__all(1);
    size_t row, at;
    MTL__EACH_VECTOR(b.rows) {
        const mtl_real *z = b.z + row * b.z_row + at;
        mtl_real *dz = b.dz + row * b.dz_row + at, *carry = b.dh + row * b.dh_row + at;
        const mtl__vec r = mtl__load(z + MTL__GRU_R), u = mtl__load(z + MTL__GRU_U);
        const mtl__vec n = mtl__load(z + MTL__GRU_N);
        const mtl__vec dh = mtl__add(mtl__load(b.dy + row * b.dy_row + at), mtl__load(carry));
        const mtl__vec du = mtl__mul(dh, mtl__sub(mtl__load(b.h_before + row * b.h_before_row + at), n));
        const mtl__vec dn = mtl__mul(mtl__submul(dh, u, dh), mtl__submul(n, n, one));
        const mtl__vec dr = mtl__mul(dn, mtl__load(b.extra + row * b.extra_row + at));
        mtl__store(carry, mtl__mul(dh, u));
        mtl__store(dz + MTL__GRU_DN, dn);
        mtl__store(dz + MTL__GRU_DR, mtl__mul(dr, mtl__submul(r, r, r)));
        mtl__store(dz + MTL__GRU_DU, mtl__mul(du, mtl__submul(u, u, u)));
        mtl__store(dz + MTL__GRU_DM, mtl__mul(dn, r));
    }
}

/* Reset before, first half: r = sigmoid(z_r)    u = sigmoid(z_u)    extra = r h', which W_hn multiplies. */
MTL__KERNEL void MTL__FN(mtl__gru_reset_forward)(const mtl__cell_block *block)
{
    const mtl__cell_block b = *block;
    size_t row, at;
    MTL__EACH_VECTOR(b.rows) {
        mtl_real *z = b.z + row * b.z_row + at;
        const mtl__vec r = MTL__FN(mtl__sigmoid)(mtl__load(z + MTL__GRU_R));
        mtl__store(z + MTL__GRU_R, r);
        mtl__store(z + MTL__GRU_U, MTL__FN(mtl__sigmoid)(mtl__load(z + MTL__GRU_U)));
        mtl__store(b.extra + row * b.extra_row + at,
                   mtl__mul(r, mtl__load(b.h_before + row * b.h_before_row + at)));
    }
}

/* Reset before, second half: n = tanh(z_n)    h = n + u (h' - n) */
MTL__KERNEL void MTL__FN(mtl__gru_output_forward)(const mtl__cell_block *block)
{
    const mtl__cell_block b = *block;
    size_t row, at;
    MTL__EACH_VECTOR(b.rows) {
        mtl_real *z = b.z + row * b.z_row + at;
        const mtl__vec n = MTL__FN(mtl__tanh)(mtl__load(z + MTL__GRU_N));
        const mtl__vec away = mtl__sub(mtl__load(b.h_before + row * b.h_before_row + at), n);
        mtl__store(z + MTL__GRU_N, n);
        mtl__store(b.h + row * b.h_row + at, mtl__muladd(mtl__load(z + MTL__GRU_U), away, n));
    }
}

/* Reset before, backward of the second half: dh = dy + carried dh    du = dh (h' - n)
   dh carried on = dh u    dz_n = dh (1 - u) (1 - n^2)    dz_u = du u(1 - u) */
MTL__KERNEL void MTL__FN(mtl__gru_output_backward)(const mtl__cell_block *block)
{
    const mtl__cell_block b = *block;
    size_t row, at;
    MTL__EACH_VECTOR(b.rows) {
        const mtl_real *z = b.z + row * b.z_row + at;
        mtl_real *dz = b.dz + row * b.dz_row + at, *carry = b.dh + row * b.dh_row + at;
        const mtl__vec u = mtl__load(z + MTL__GRU_U), n = mtl__load(z + MTL__GRU_N);
        const mtl__vec dh = mtl__add(mtl__load(b.dy + row * b.dy_row + at), mtl__load(carry));
        const mtl__vec du = mtl__mul(dh, mtl__sub(mtl__load(b.h_before + row * b.h_before_row + at), n));
        mtl__store(carry, mtl__mul(dh, u));
        mtl__store(dz + MTL__GRU_DN, mtl__mul(mtl__submul(dh, u, dh), mtl__submul(n, n, mtl__all(1))));
        mtl__store(dz + MTL__GRU_DU, mtl__mul(du, mtl__submul(u, u, u)));
    }
}

/* Reset before, backward of the first half, from d = dz_n W_hn, the gradient of r h':
   dr = d h'    dz_r = dr r(1 - r)    dh carried on += d r, to which the caller adds (dz_r dz_u) W_hh */
MTL__KERNEL void MTL__FN(mtl__gru_reset_backward)(const mtl__cell_block *block, const mtl_real *drh,
                                                  size_t drh_row)
{
    const mtl__cell_block b = *block;
    size_t row, at;
    MTL__EACH_VECTOR(b.rows) {
        mtl_real *carry = b.dh + row * b.dh_row + at;
        const mtl__vec r = mtl__load(b.z + row * b.z_row + MTL__GRU_R + at);
        const mtl__vec d = mtl__load(drh + row * drh_row + at);
        const mtl__vec dr = mtl__mul(d, mtl__load(b.h_before + row * b.h_before_row + at));
        mtl__store(b.dz + row * b.dz_row + MTL__GRU_DR + at, mtl__mul(dr, mtl__submul(r, r, r)));
        mtl__store(carry, mtl__muladd(d, r, mtl__load(carry)));
    }
}

/* h = f(z) */
MTL__KERNEL void MTL__FN(mtl__rnn_forward)(const mtl__cell_block *block)
{
    const mtl__cell_block b = *block;
    size_t row, at;
    MTL__EACH_VECTOR(b.rows)
        mtl__store(b.h + row * b.h_row + at, MTL__FN(mtl__activation)(b.activation,
                                                                      mtl__load(b.z + row * b.z_row + at)));
}

/* dh = dy + carried dh    dz = dh f'(z), made from h. The caller carries on dh = dz W_hh. */
MTL__KERNEL void MTL__FN(mtl__rnn_backward)(const mtl__cell_block *block)
{
    const mtl__cell_block b = *block;
    size_t row, at;
    MTL__EACH_VECTOR(b.rows) {
        const mtl__vec dh = mtl__add(mtl__load(b.dy + row * b.dy_row + at),
                                     mtl__load(b.dh + row * b.dh_row + at));
        mtl__store(b.dz + row * b.dz_row + at,
                   MTL__FN(mtl__activation_slope)(b.activation, mtl__load(b.h + row * b.h_row + at), dh));
    }
}

/* ---- cells through time -----------------------------------------------------------------------------------
   One step at a time: product of the states before with W_hh, then the element-wise part, block after block
   while the product's result is in L1 (mtl__cell_enter says how many blocks at once). No product for
   sequences that start from zeros. Bound: multiply-adds; for few sequences, reading W_hh. */

/* The left operand of a step's product: rows of `blocks` times `width` reals, as they are or rounded, once
   for all units, into the pass's scratch. */
MTL__KERNEL void MTL__FN(mtl__cell_operand)(const mtl__cell_pass *p, const mtl__cell_rows *part,
                                            size_t blocks, size_t width, const mtl_real *a, size_t a_row,
                                                size_t a_block, mtl__tile *t)
{
    t->a = a;
    t->a_row = a_row;
    t->chunks = blocks;
    t->length = width;
    t->a_chunk = a_block;
#if MTL__PAIRS
    if (p->pairs && a) {
        mtl_real *rounded = p->rounded + part->sequence * p->rounded_row;
        if (part->begin == 0) MTL__FN(mtl__round_blocks)(part->rows, blocks, width, a, a_row, a_block,
                                                         rounded, p->rounded_row);
        t->pairs = 1;
        t->a = rounded;
        t->a_row = p->rounded_row;
        t->a_step = t->chunks = 1;
        t->length = blocks * ((width + 1) / 2);
    }
#else
    (void)p;
    (void)part;
#endif
}

/* a . W^T for the part's first block of units, a of H columns; the caller gives c, and moves b on from block
   to block. */
MTL__VECTOR mtl__tile MTL__FN(mtl__cell_tile)(const mtl__cell_pass *p, const mtl__cell_rows *part,
                                              const mtl_real *a, size_t a_row, size_t gates, int start)
{
    mtl__tile t;
    memset(&t, 0, sizeof t);
    MTL__FN(mtl__cell_operand)(p, part, 1, p->units, a, a_row, 0, &t);
    t.b_block = t.length * MTL__BLOCK;
    t.b = p->packed + part->begin / MTL__BLOCK * gates * t.b_block;
    t.c_block = MTL__BLOCK;
    t.start = start;
    return t;
}

/* Products of one row with all gates of a block of units, block after block. `held` (gates is a constant
   then): a tile of its own, since with one row what surrounds a tile takes as long as the tile. t moves on.
   Bound: reading W. */
MTL__VECTOR void MTL__FN(mtl__row_gates)(const size_t gates, const int held, size_t blocks, mtl__tile *t)
{
    mtl__tile one = *t;
    one.chunks = 1;
    one.b_block = one.length * MTL__BLOCK;
    one.c_block = MTL__BLOCK;
    for (; blocks; blocks--, one.b += gates * one.b_block, one.c += t->c_block) {
        if (held && gates * MTL__PARTS <= MTL__TILE_SUMS) MTL__FN(mtl__tile_sum)(1, gates, 0, 0, &one);
        else MTL__FN(mtl__multiply)(1, gates * MTL__BLOCK, 0, &one);
        if (one.start == MTL__START_BIAS) one.bias += gates * MTL__BLOCK;
    }
    t->b = one.b;
}

MTL__KERNEL void MTL__FN(mtl__row_product)(size_t gates, size_t blocks, mtl__tile *t)
{
    if (gates == 4) MTL__FN(mtl__row_gates)(4, 1, blocks, t);
    else if (gates == 3) MTL__FN(mtl__row_gates)(3, 1, blocks, t);
    else MTL__FN(mtl__row_gates)(gates, 0, blocks, t);
}

/* The product of the next blocks with all their gates, into `to`. */
MTL__VECTOR void MTL__FN(mtl__cell_product)(mtl__tile *t, size_t rows, size_t gates, size_t blocks,
                                            mtl_real *to, size_t to_row, size_t to_block)
{
    size_t block;
    if (!t->a) return;
    t->c_row = to_row;
    if (rows == 1 && !t->pairs) {
        t->c = to;
        t->c_block = to_block;
        MTL__FN(mtl__row_product)(gates, blocks, t);
        return;
    }
    for (block = 0; block < blocks; block++) {
        t->c = to + block * to_block;
        MTL__FN(mtl__multiply_deep)(rows, gates * MTL__BLOCK, t);
        t->b += gates * t->b_block;
    }
}

/* z[gate] += a . W^T of a matrix with one gate, which stands at z_gate in a row of z, for all blocks of the
   part at once */
MTL__KERNEL void MTL__FN(mtl__cell_product_gate)(const mtl__cell_pass *p, const mtl__cell_rows *part,
                                                 const mtl_real *a, size_t a_row, const mtl_real *packed,
                                                 size_t z_gate)
{
    const size_t first = part->begin / MTL__BLOCK, blocks = (part->end + MTL__BLOCK - 1) / MTL__BLOCK - first;
    mtl__tile t = MTL__FN(mtl__cell_tile)(p, part, a, a_row, 1, MTL__START_ADD);
    t.b = packed + first * t.b_block;
    t.c_row = mtl__cell_z_row(p);
    t.c = p->z + first * p->z_block + (part->row - p->z_first) * t.c_row + z_gate;
    t.c_block = p->z_block;
    MTL__FN(mtl__multiply_deep)(part->rows, blocks * MTL__BLOCK, &t);
}

MTL__KERNEL void MTL__FN(mtl__lstm_step)(const mtl__cell_pass *p, const mtl__cell_rows *part)
{
    mtl__tile t = MTL__FN(mtl__cell_tile)(p, part, part->h, part->h_stride, 4, MTL__START_ADD);
    const mtl__cell_block *b;
    mtl__cell_walk walk;
    for (b = mtl__cell_first(p, part, &walk); b; b = mtl__cell_next(p, part, &walk)) {
        MTL__FN(mtl__cell_product)(&t, part->rows, 4, walk.blocks, walk.at.z, walk.at.z_row, p->z_block);
        MTL__FN(mtl__lstm_forward)(b, p->keep);
        mtl__cell_leave(p, &walk);
    }
}

MTL__KERNEL void MTL__FN(mtl__gru_step)(const mtl__cell_pass *p, const mtl__cell_rows *part)
{
    MTL__ALIGN64 mtl_real product[MTL__SEQUENCES * 3 * MTL__BLOCK];     /* of all rows of a block, or of one
                                                                           row of all blocks */
    const size_t width = 3 * MTL__BLOCK, bias_row = part->rows > 1 || !p->bias_n ? 0 : MTL__BLOCK;
    mtl__tile t = MTL__FN(mtl__cell_tile)(p, part, part->h, part->h_stride, 3, MTL__START_ZERO);
    const mtl__cell_block *b;
    mtl__cell_walk walk;
    for (b = mtl__cell_first(p, part, &walk); b; b = mtl__cell_next(p, part, &walk)) {
        MTL__FN(mtl__cell_product)(&t, part->rows, 3, walk.blocks, product, width, width);
        MTL__FN(mtl__gru_forward)(b, part->h ? product : mtl__zeros, part->h ? width : 0, p->bias_n
                                  ? p->bias_n + walk.unit : mtl__zeros, bias_row, p->keep);
        mtl__cell_leave(p, &walk);
    }
}

MTL__KERNEL void MTL__FN(mtl__gru_reset_step)(const mtl__cell_pass *p, const mtl__cell_rows *part)
{
    mtl__tile t = MTL__FN(mtl__cell_tile)(p, part, part->h, part->h_stride, 2, MTL__START_ADD);
    const mtl__cell_block *b;
    mtl__cell_walk walk;
    const mtl_real *reset;
    size_t reset_row;
    mtl__cell_open(p, part, &walk.at);
    reset = walk.at.extra;
    reset_row = walk.at.extra_row;
    for (b = mtl__cell_first(p, part, &walk); b; b = mtl__cell_next(p, part, &walk)) {
        MTL__FN(mtl__cell_product)(&t, part->rows, 2, walk.blocks, walk.at.z, walk.at.z_row, p->z_block);
        MTL__FN(mtl__gru_reset_forward)(b);
    }
    if (part->h) MTL__FN(mtl__cell_product_gate)(p, part, reset, reset_row, p->packed_n, MTL__GRU_N);
    for (b = mtl__cell_first(p, part, &walk); b; b = mtl__cell_next(p, part, &walk)) {
        MTL__FN(mtl__gru_output_forward)(b);
        mtl__cell_leave(p, &walk);
    }
}

MTL__KERNEL void MTL__FN(mtl__rnn_step)(const mtl__cell_pass *p, const mtl__cell_rows *part)
{
    const mtl__cell_block *b;
    mtl__cell_walk walk;
    if (part->h) MTL__FN(mtl__cell_product_gate)(p, part, part->h, part->h_stride, p->packed, 0);
    for (b = mtl__cell_first(p, part, &walk); b; b = mtl__cell_next(p, part, &walk)) {
        MTL__FN(mtl__rnn_forward)(b);
        mtl__cell_leave(p, &walk);
    }
}

/* z (+)= a . W^T for one row and `gates` gates of all blocks of units; z has z_block to the next block. */
MTL__KERNEL void MTL__FN(mtl__single_product)(size_t units, size_t gates, size_t length, const mtl_real *a,
                                              const mtl_real *packed, const mtl_real *bias, mtl_real *z,
                                                  size_t z_block, int start)
{
    const size_t blocks = (units + MTL__BLOCK - 1) / MTL__BLOCK;
    mtl__tile t;
    memset(&t, 0, sizeof t);
    t.chunks = 1;
    t.length = length;
    t.a = a;
    t.b = packed;
    t.b_block = length * MTL__BLOCK;
    t.c = z;
    t.c_block = z_block;                                /* for one gate: columns are blocks of units */
    t.start = bias ? MTL__START_BIAS : start;
    t.bias = bias;
    if (gates > 1) MTL__FN(mtl__row_product)(gates, blocks, &t);
    else MTL__FN(mtl__multiply)(1, blocks * MTL__BLOCK, 0, &t);
}

/* The product with W_hh of the joint gates. */
MTL__KERNEL void MTL__FN(mtl__single_hidden)(const mtl__cell_single *p, mtl_real *z, int start)
{
    MTL__FN(mtl__single_product)(p->units, p->kind->joint, p->units, p->h, p->packed, NULL, z,
                                 p->kind->gates * MTL__BLOCK, start);
}

MTL__KERNEL void MTL__FN(mtl__lstm_single)(const mtl__cell_single *p, const mtl__cell_block *b)
{
    MTL__FN(mtl__single_hidden)(p, p->z, MTL__START_ADD);
    MTL__FN(mtl__lstm_forward)(b, 0);
}

MTL__KERNEL void MTL__FN(mtl__gru_single)(const mtl__cell_single *p, const mtl__cell_block *b)
{
    MTL__FN(mtl__single_hidden)(p, p->extra, MTL__START_ZERO);
    MTL__FN(mtl__gru_forward)(b, p->extra, b->z_row, p->bias_n ? p->bias_n : mtl__zeros, p->bias_n
                              ? MTL__BLOCK : 0, 0);
}

MTL__KERNEL void MTL__FN(mtl__gru_reset_single)(const mtl__cell_single *p, const mtl__cell_block *b)
{
    MTL__FN(mtl__single_hidden)(p, p->z, MTL__START_ADD);
    MTL__FN(mtl__gru_reset_forward)(b);
    MTL__FN(mtl__single_product)(p->units, 1, p->units, p->extra, p->packed_n, NULL, p->z + MTL__GRU_N,
                                 b->z_row, MTL__START_ADD);
    MTL__FN(mtl__gru_output_forward)(b);
}

MTL__KERNEL void MTL__FN(mtl__rnn_single)(const mtl__cell_single *p, const mtl__cell_block *b)
{
    MTL__FN(mtl__single_hidden)(p, p->z, MTL__START_ADD);
    MTL__FN(mtl__rnn_forward)(b);
}

/* to (+)= dz[slot .. slot + gates) . W for all blocks of the part: a gradient of the states before. */
MTL__KERNEL void MTL__FN(mtl__cell_product_back)(const mtl__cell_pass *p, const mtl__cell_rows *part,
                                                 size_t slot, size_t gates, const mtl_real *packed,
                                                 mtl_real *to, size_t to_row, int start)
{
    const size_t blocks = (p->units + MTL__BLOCK - 1) / MTL__BLOCK, first = part->begin / MTL__BLOCK;
    const size_t dz_row = mtl__cell_dz_row(p);
    mtl__tile t;
    memset(&t, 0, sizeof t);
    MTL__FN(mtl__cell_operand)(p, part, blocks, gates * MTL__BLOCK,
                               p->dz + (part->row - p->dz_first) * dz_row + slot * MTL__BLOCK, dz_row,
                                   p->dz_block, &t);
    t.b_block = t.chunks * t.length * MTL__BLOCK;
    t.b = packed + first * t.b_block;
    t.c = to + part->begin;
    t.c_row = to_row;
    t.c_block = MTL__BLOCK;
    t.start = start;
    MTL__FN(mtl__multiply_deep)(part->rows, ((part->end + MTL__BLOCK - 1) / MTL__BLOCK - first) * MTL__BLOCK,
                                &t);
}

/* The element-wise part of all blocks. */
MTL__KERNEL void MTL__FN(mtl__cell_slopes)(const mtl__cell_pass *p, const mtl__cell_rows *part,
                                           void (*slopes)(const mtl__cell_block *))
{
    const mtl__cell_block *b;
    mtl__cell_walk walk;
    for (b = mtl__cell_first(p, part, &walk); b; b = mtl__cell_next(p, part, &walk)) {
        slopes(b);
        mtl__cell_leave_backward(p, &walk);
    }
}

MTL__KERNEL void MTL__FN(mtl__lstm_step_back)(const mtl__cell_pass *p, const mtl__cell_rows *part)
{
    MTL__FN(mtl__cell_slopes)(p, part, MTL__FN(mtl__lstm_backward));
}

MTL__KERNEL void MTL__FN(mtl__gru_step_back)(const mtl__cell_pass *p, const mtl__cell_rows *part)
{
    MTL__FN(mtl__cell_slopes)(p, part, MTL__FN(mtl__gru_backward));
}

/* The gradient passes two products: that of the gate apart here, then the joint ones' as in other cells. */
MTL__KERNEL void MTL__FN(mtl__gru_reset_step_back)(const mtl__cell_pass *p, const mtl__cell_rows *part)
{
    const size_t padded = (p->units + MTL__BLOCK - 1) / MTL__BLOCK * MTL__BLOCK,
                 drh_row = part->rows > 1 ? padded : (size_t)MTL__BLOCK;
    mtl_real *drh = p->scratch + part->sequence * padded;
    const mtl__cell_block *b;
    mtl__cell_walk walk;
    MTL__FN(mtl__cell_slopes)(p, part, MTL__FN(mtl__gru_output_backward));
    MTL__FN(mtl__cell_product_back)(p, part, 0, 1, p->packed_n_t, drh, padded, MTL__START_ZERO);
    for (b = mtl__cell_first(p, part, &walk); b; b = mtl__cell_next(p, part, &walk)) {
        MTL__FN(mtl__gru_reset_backward)(b, drh + walk.unit, drh_row);
        mtl__cell_leave_backward(p, &walk);
    }
}

MTL__KERNEL void MTL__FN(mtl__rnn_step_back)(const mtl__cell_pass *p, const mtl__cell_rows *part)
{
    MTL__FN(mtl__cell_slopes)(p, part, MTL__FN(mtl__rnn_backward));
}

/* The product with W_hh, into the part's units of the carry dh. */
MTL__KERNEL void MTL__FN(mtl__cell_step_carry)(const mtl__cell_pass *p, const mtl__cell_rows *part)
{
    if (part->linked || p->want_dh0)
        MTL__FN(mtl__cell_product_back)(p, part, p->kind->hidden_slot, p->kind->joint, p->packed_t,
                                        p->dh + part->sequence * p->dh_stride, p->dh_stride,
                                        p->kind->carries ? MTL__START_ADD : MTL__START_ZERO);
}

/* ---- cells: all steps -------------------------------------------------------------------------------------
   From here on any cell will do: what it is, is looked up once in a pass. */
#define MTL__CELL_FUNCTIONS(NAME, ...) \
    { MTL__FN(mtl__##NAME##_step), MTL__FN(mtl__##NAME##_step_back), MTL__FN(mtl__##NAME##_single) },
static const mtl__cell_functions MTL__FN(mtl__cell_functions)[] = { MTL__CELL_KINDS(MTL__CELL_FUNCTIONS) };
#undef MTL__CELL_FUNCTIONS

/* The sequences from `first` on, at most MTL__SEQUENCES, through the units [begin, end) of step t. Backward,
   the element-wise part takes all units in the first ones' turn. */
MTL__KERNEL void MTL__FN(mtl__cell_turn)(const mtl__cell_pass *p, const mtl__cell_functions *cell, int back,
                                         size_t t, size_t first, size_t count, size_t begin, size_t end)
{
    mtl__cell_rows parts[2];
    const int n = mtl__cell_parts(p, t, first, count, parts);
    int i;
    for (i = 0; i < n; i++) {
        if (back && begin == 0) cell->step_back(p, &parts[i]);
        parts[i].begin = begin;
        parts[i].end = end;
        if (back) MTL__FN(mtl__cell_step_carry)(p, &parts[i]);
        else {
            if (p->same) mtl__cell_copy_same(p, &parts[i]);
            cell->step(p, &parts[i]);
        }
    }
}

/* Sequences [first, first + count) through all steps; back: from the last in reading direction. */
MTL__KERNEL void MTL__FN(mtl__cell_through)(const mtl__cell_pass *p, size_t first, size_t count, int back)
{
    const mtl__cell_functions *cell = &MTL__FN(mtl__cell_functions)[p->kind - mtl__cell_kinds];
    const size_t last = p->end ? p->end : p->time->steps, steps = last - p->begin, all = first + count;
    const size_t together = mtl__cell_together(p), units = mtl__cell_units_near(p);
    size_t i, begin, s;
    for (; first < all; first += together) {
        const size_t end = first + mtl__at_most(all - first, together);
        for (i = 0; i < steps; i++)
            for (begin = 0; begin < p->units; begin += units)
                for (s = first; s < end; s += MTL__SEQUENCES)
                    MTL__FN(mtl__cell_turn)(p, cell, back, p->reverse != back ? last - 1 - i : p->begin + i,
                                            s, mtl__at_most(end - s, MTL__SEQUENCES), begin,
                                            mtl__at_most(p->units, begin + units));
    }
}

MTL__KERNEL void MTL__FN(mtl__cell_forward)(const mtl__cell_pass *p, size_t first, size_t count)
{
    MTL__FN(mtl__cell_through)(p, first, count, 0);
}

/* p->keep must be set, as in forward. */
MTL__KERNEL void MTL__FN(mtl__cell_backward)(const mtl__cell_pass *p, size_t first, size_t count)
{
    MTL__FN(mtl__cell_through)(p, first, count, 1);
}

/* One step of one sequence: both products with all blocks, then the element-wise part with all blocks in the
   place of rows. Bound: reading W_ih and W_hh. */
MTL__KERNEL void MTL__FN(mtl__cell_single)(const mtl__cell_single *p, const mtl_real *x)
{
    mtl__cell_block b;
    b.rows = (p->units + MTL__BLOCK - 1) / MTL__BLOCK;
    b.activation = p->activation;
    b.z = p->z;
    b.z_row = p->kind->gates * MTL__BLOCK;
    b.h_before = b.h = p->h;
    b.c_before = b.c = p->c;
    b.extra = p->extra;
    b.h_row = b.h_before_row = b.c_row = b.c_before_row = b.extra_row = MTL__BLOCK;
    MTL__FN(mtl__single_product)(p->units, p->kind->gates, p->inputs, x, p->packed_input, p->bias, p->z,
                                 b.z_row, MTL__START_ZERO);
    MTL__FN(mtl__cell_functions)[p->kind - mtl__cell_kinds].single(p, &b);
}

/* ---- optimisers -------------------------------------------------------------------------------------------
   The rules of mtl__update, a vector of parameters at a time. Bound: memory (Adam reads 4 and writes 3
   streams); within the second-level cache Adam's division and root (both exact: estimates with Newton's steps
   measured slower). */

/* The constants of a rule, each the result of a computation in double. They are vectors, so that the loop
   keeps them. */
typedef struct MTL__FN(mtl__rule) {
    mtl__vec scale, limit, minus_limit, l1, l2, keep, momentum, beta1_rest, beta2, beta2_rest, epsilon, step,
        root;
    int clip, nesterov, first;
} MTL__FN(mtl__rule);

/* What the rule sees as its gradient. */
MTL__VECTOR mtl__vec MTL__FN(mtl__update_slope)(const int plain, const MTL__FN(mtl__rule) *k, mtl__vec slope,
                                                mtl__vec old)
{
    slope = mtl__mul(slope, k->scale);
    if (plain) return slope;
    if (k->clip) slope = mtl__min(k->limit, mtl__max(k->minus_limit, slope));
    slope = mtl__muladd(old, k->l2, slope);
    return mtl__add(slope, mtl__with_sign(mtl__where_positive(mtl__abs(old), k->l1), old));
}

/* A vector of parameters. which, with_momentum and plain are constants where this is inlined.
   Adam at update t, as its paper has it (Kingma & Ba 2015, algorithm 1), b1 and b2 for beta:
       m = b1 m + (1 - b1) g         v = b2 v + (1 - b2) g^2
       m' = m / (1 - b1^t)           v' = v / (1 - b2^t)           p = p - lr m' / (sqrt(v') + epsilon)
   Here the first is m + (1 - b1) (g - m), and what is the same for all parameters is one number, computed in
   double: step = lr / (1 - b1^t), root = 1 / sqrt(1 - b2^t), so that p = p - step (m / (root sqrt(v) +
   epsilon)). AdamW takes p (1 - lr decay) for the p on the right. */
MTL__VECTOR void MTL__FN(mtl__update_vector)(const int which, const int with_momentum, const int plain,
                                             const MTL__FN(mtl__rule) *k, mtl_real *p, const mtl_real *g,
                                                 mtl_real *m, mtl_real *v)
{
    const mtl__vec old = mtl__load(p), kept = plain ? old : mtl__mul(old, k->keep);
    const mtl__vec slope = MTL__FN(mtl__update_slope)(plain, k, g ? mtl__load(g) : mtl__all(0), old);
    mtl__vec moment, square, step;
    if (which != MTL_OPTIMIZER_SGD) {
        square = mtl__mul(mtl__mul(slope, slope), k->beta2_rest);
        square = mtl__muladd(mtl__load(v), k->beta2, square);
        mtl__store(v, square);
    } else square = slope;
    if (which == MTL_OPTIMIZER_ADAM) {
        moment = mtl__load(m);
        moment = mtl__muladd(mtl__sub(slope, moment), k->beta1_rest, moment);
        mtl__store(m, moment);
        step = mtl__div(moment, mtl__muladd(mtl__sqrt(square), k->root, k->epsilon));
    } else {
        step = which == MTL_OPTIMIZER_SGD ? slope : mtl__div(slope, mtl__add(mtl__sqrt(square), k->epsilon));
        if (with_momentum) {
            moment = which == MTL_OPTIMIZER_SGD && k->first ? step
                                                            : mtl__muladd(mtl__load(m), k->momentum, step);
            mtl__store(m, moment);
            step = which == MTL_OPTIMIZER_SGD && k->nesterov
                ? mtl__muladd(moment, k->momentum, step) : moment;
        }
    }
    mtl__store(p, mtl__submul(k->step, step, kept));
}

/* n parameters, whole vectors of them. */
MTL__VECTOR void MTL__FN(mtl__update_all)(const int which, const int with_momentum, const int plain,
                                          const MTL__FN(mtl__rule) *k, size_t n, mtl_real *p,
                                              const mtl_real *g, mtl_real *m,
                                          mtl_real *v)
{
    size_t i;
    for (i = 0; i < n; i += MTL__LANES)
        MTL__FN(mtl__update_vector)(which, with_momentum, plain, k, p + i, g ? g + i : g, m ? m + i : m, v
                                    ? v + i : v);
}

/* Chooses the loop in which the rule is constant. The copy of k is this function's own, so that its constants
   stay in registers. */
MTL__KERNEL void MTL__FN(mtl__update_whole)(const mtl__update *u, const MTL__FN(mtl__rule) *k, int plain,
                                            size_t n, mtl_real *p, const mtl_real *g, mtl_real *m,
                                                mtl_real *v)
{
    const MTL__FN(mtl__rule) rule = *k;
    if (u->rule == MTL_OPTIMIZER_SGD && u->momentum == 0)
        MTL__FN(mtl__update_all)(MTL_OPTIMIZER_SGD, 0, 0, &rule, n, p, g, m, v);
    else if (u->rule == MTL_OPTIMIZER_SGD) MTL__FN(mtl__update_all)(MTL_OPTIMIZER_SGD, 1, 0, &rule, n, p, g,
                                                                    m, v);
    else if (u->rule == MTL_OPTIMIZER_RMSPROP && u->momentum == 0)
        MTL__FN(mtl__update_all)(MTL_OPTIMIZER_RMSPROP, 0, 0, &rule, n, p, g, m, v);
    else if (u->rule == MTL_OPTIMIZER_RMSPROP) MTL__FN(mtl__update_all)(MTL_OPTIMIZER_RMSPROP, 1, 0, &rule, n,
                                                                        p, g, m, v);
    else if (plain) MTL__FN(mtl__update_all)(MTL_OPTIMIZER_ADAM, 1, 1, &rule, n, p, g, m, v);
    else MTL__FN(mtl__update_all)(MTL_OPTIMIZER_ADAM, 1, 0, &rule, n, p, g, m, v);
}

/* The last n parameters, n < LANES, through copies. */
MTL__KERNEL void MTL__FN(mtl__update_rest)(const mtl__update *u, const MTL__FN(mtl__rule) *k, int plain,
                                           size_t n, mtl_real *p, const mtl_real *g, mtl_real *m, mtl_real *v)
{
    mtl_real copy[4][MTL__LANES] = { { 0 } };
    const size_t bytes = n * sizeof *p;
    memcpy(copy[0], p, bytes);
    if (g) memcpy(copy[1], g, bytes);
    if (m) memcpy(copy[2], m, bytes);
    if (v) memcpy(copy[3], v, bytes);
    MTL__FN(mtl__update_whole)(u, k, plain, MTL__LANES, copy[0], g ? copy[1] : NULL, m ? copy[2] : NULL, v
                               ? copy[3] : NULL);
    memcpy(p, copy[0], bytes);
    if (m) memcpy(m, copy[2], bytes);
    if (v) memcpy(v, copy[3], bytes);
}

/* g NULL: zeros, which are not read. m and v may be NULL where the rule does not use them. */
MTL__KERNEL void MTL__FN(mtl__update)(const mtl__update *u, size_t n, mtl_real *p, const mtl_real *g,
                                      mtl_real *m, mtl_real *v)
{
    MTL__FN(mtl__rule) k;
    const int adam = u->rule == MTL_OPTIMIZER_ADAM || u->rule == MTL_OPTIMIZER_ADAMW;
    const int plain = !(u->limit > 0) && u->l1 == 0 && u->l2 == 0 && u->decay == 0;
    const size_t whole = n - n % MTL__LANES;
    k.scale = mtl__all((mtl_real)u->scale);
    k.limit = mtl__all((mtl_real)u->limit);
    k.minus_limit = mtl__all((mtl_real)-u->limit);
    k.clip = u->limit > 0;
    k.l1 = mtl__all((mtl_real)u->l1);
    k.l2 = mtl__all((mtl_real)u->l2);
    k.keep = mtl__all((mtl_real)(1 - u->lr * u->decay));
    k.momentum = mtl__all((mtl_real)u->momentum);
    k.beta1_rest = mtl__all((mtl_real)(1 - u->beta1));
    k.beta2 = mtl__all((mtl_real)u->beta2);
    k.beta2_rest = mtl__all((mtl_real)(1 - u->beta2));
    k.epsilon = mtl__all((mtl_real)u->epsilon);
    k.nesterov = u->nesterov;
    k.first = u->first;
    k.step = mtl__all((mtl_real)(adam ? u->lr / u->correction1 : u->lr));
    k.root = mtl__all((mtl_real)(adam ? 1 / sqrt(u->correction2) : 1));
    if (whole) MTL__FN(mtl__update_whole)(u, &k, plain, whole, p, g, m, v);
    if (whole < n)
        MTL__FN(mtl__update_rest)(u, &k, plain, n - whole, p + whole, g ? g + whole : g, m ? m + whole : m, v
                                  ? v + whole : v);
}

/* ---- the table of this instruction set ----------------------------------------------------------------- */
#define MTL__KERNEL_ENTRY(result, name, arguments) MTL__FN(mtl__##name),
#define MTL__NO_KERNEL(result, name, arguments) NULL,
#define MTL__QUOTE2(name) #name
#define MTL__QUOTE(name) MTL__QUOTE2(name)
static const mtl__kernels MTL__FN(mtl__kernels) = {
    MTL__STAMP,
    MTL__QUOTE(MTL__ISA),
    MTL__KERNEL_LIST(MTL__KERNEL_ENTRY)
#if MTL__PAIRS
    MTL__PAIRS_KERNEL_LIST(MTL__KERNEL_ENTRY)
#else
    MTL__PAIRS_KERNEL_LIST(MTL__NO_KERNEL)
#endif
};

#undef MTL__LANES
#undef MTL__PAIRS
#undef MTL__TILE_SUMS
#undef MTL__TILE_ROWS
#undef MTL__TARGETED

#endif /* MTL__STAMP */

#if !defined(MTL__STAMP) && defined(MTL_RNN_IMPLEMENTATION) && !defined(MTL__IMPLEMENTED)
#define MTL__IMPLEMENTED 1

/* ===========================================================================================================
   9  >>dispatch   stamping, tables, choice
   ===========================================================================================================
   The header includes itself once per instruction set; each time only the kernel template of section 8 is
   read. So every kernel exists as an ordinary function that a debugger can step through line by line.

     MTL__STAMP    number of the instruction set, MTL_ISA_*; that it is defined makes the header a template
     MTL__ISA      the end of every name in the stamp
     MTL__TARGET   what the stamp's functions may use, whatever flags the program is compiled with

   MTL__AVX512_EMULATED is for tests: tests/avx512_emulation.h, included before this header, defines it and
   makes every AVX-512 intrinsic out of AVX2; then this stamp is compiled for AVX2 and runs wherever AVX2
   does.

   MTL_SINGLE_ISA, defined as one of the MTL_ISA_* names, leaves only that stamp (smaller program; the header
   then does not run where the instruction set is missing, and says so). Where no vectors can be compiled
   (MTL_NO_SIMD, MTL_REAL double, another processor or compiler) there is the scalar stamp, and only that.
   -------------------------------------------------------------------------------------------------------- */
#ifndef MTL_HEADER_NAME
#  define MTL_HEADER_NAME "mtl_rnn.h"
#endif

/* The preprocessor does not know enumerations: it compares these. */
#define MTL__NUMBER_OF_MTL_ISA_SCALAR 1
#define MTL__NUMBER_OF_MTL_ISA_SSE2   2
#define MTL__NUMBER_OF_MTL_ISA_AVX2   3
#define MTL__NUMBER_OF_MTL_ISA_AVX512 4
#define MTL__NUMBER_OF_MTL_ISA_NEON   5
#ifndef MTL_SINGLE_ISA
#  define MTL__STAMPED(isa) 1
#else
#  define MTL__STAMPED(isa) (MTL__CAT(MTL__NUMBER_OF_, MTL_SINGLE_ISA) == MTL__NUMBER_OF_##isa)
#endif

#if MTL__STAMPED(MTL_ISA_SCALAR) || !(defined(MTL__X86) || defined(MTL__NEON))
#  define MTL__SCALAR 1
#endif

/* A table's number is its stamp's. */
typedef char mtl__stamp_check
    [MTL_ISA_SCALAR == 1 && MTL_ISA_SSE2 == 2 && MTL_ISA_AVX2 == 3 && MTL_ISA_AVX512 == 4 && MTL_ISA_NEON == 5
     ? 1 : -1];

/* The stamp of AVX-512 holds the kernels on pairs too. No compiler uses AVX512-BF16 but where its intrinsics
   stand, so float kernels run without it. Older compilers, or the assemblers that came with them, do not know
   it. */
#if defined(__clang__) ? __clang_major__ >= 9 : defined(__GNUC__) && __GNUC__ >= 11
#  define MTL__BF16_COMPILER 1
#  define MTL__BF16_TARGET "avx512bf16,"
#else
#  define MTL__BF16_COMPILER 0
#  define MTL__BF16_TARGET ""
#endif

/* Compilers may warn inside their own vector headers (g++ 12: _mm512_undefined_ps). */
#if defined(__GNUC__)
#  pragma GCC diagnostic push
#  pragma GCC diagnostic ignored "-Wuninitialized"
#  if !defined(__clang__)
#    pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#    pragma GCC diagnostic ignored "-Wsign-conversion"
#  endif
#endif

#ifdef MTL__SCALAR
#  define MTL__STAMP 1
#  define MTL__ISA scalar
#  include MTL_HEADER_NAME
#  undef MTL__STAMP
#  undef MTL__ISA
#endif

#ifdef MTL__X86
#  if MTL__STAMPED(MTL_ISA_SSE2)
#    define MTL__STAMP 2
#    define MTL__ISA sse2
#    include MTL_HEADER_NAME
#    undef MTL__STAMP
#    undef MTL__ISA
#  endif
#  if MTL__WIDE && MTL__STAMPED(MTL_ISA_AVX2)
#    define MTL__STAMP 3
#    define MTL__ISA avx2
#    define MTL__TARGET "avx2,fma"
#    include MTL_HEADER_NAME
#    undef MTL__STAMP
#    undef MTL__ISA
#    undef MTL__TARGET
#  endif
#  if MTL__WIDE && MTL__STAMPED(MTL_ISA_AVX512)
#    define MTL__STAMP 4
#    define MTL__ISA avx512
#    ifdef MTL__AVX512_EMULATED
#      define MTL__TARGET "avx2,fma"
#    else
#      define MTL__TARGET MTL__BF16_TARGET "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma"
#    endif
#    include MTL_HEADER_NAME
#    undef MTL__STAMP
#    undef MTL__ISA
#    undef MTL__TARGET
#  endif
#endif

#ifdef MTL__NEON
#  if MTL__STAMPED(MTL_ISA_NEON)
#    define MTL__STAMP 5
#    define MTL__ISA neon
#    include MTL_HEADER_NAME
#    undef MTL__STAMP
#    undef MTL__ISA
#  endif
#endif

#if defined(__GNUC__)
#  pragma GCC diagnostic pop
#endif

/* The short names of the template are free again. */
#undef mtl__vec
#undef mtl__all
#undef mtl__load
#undef mtl__store
#undef mtl__load_some
#undef mtl__store_some
#undef mtl__add
#undef mtl__sub
#undef mtl__mul
#undef mtl__div
#undef mtl__sqrt
#undef mtl__min
#undef mtl__max
#undef mtl__muladd
#undef mtl__submul
#undef mtl__where_positive
#undef mtl__abs
#undef mtl__minus_abs
#undef mtl__with_sign
#undef mtl__keep_nan
#undef mtl__power
#undef mtl__whole
#undef mtl__scaled
#undef mtl__hidden
#undef mtl__transpose
#undef mtl__uints
#undef mtl__uints_from
#undef mtl__uints_add
#undef mtl__uints_fold
#undef mtl__uints_mul
#undef mtl__where_not_below
#undef mtl__add_squares
#undef mtl__lanes_sum
#undef mtl__lanes_max
#undef mtl__dot_pairs
#undef mtl__pairs_along
#undef mtl__pairs_across

/* All tables of this program, worst first. */
static const mtl__kernels *const mtl__kernel_tables[] = {
#ifdef MTL__SCALAR
    &mtl__kernels_scalar,
#endif
#if defined(MTL__X86) && MTL__STAMPED(MTL_ISA_SSE2)
    &mtl__kernels_sse2,
#endif
#if defined(MTL__X86) && MTL__WIDE && MTL__STAMPED(MTL_ISA_AVX2)
    &mtl__kernels_avx2,
#endif
#if defined(MTL__X86) && MTL__WIDE && MTL__STAMPED(MTL_ISA_AVX512)
    &mtl__kernels_avx512,
#endif
#if defined(MTL__NEON) && MTL__STAMPED(MTL_ISA_NEON)
    &mtl__kernels_neon,
#endif
    NULL
};

/* The table of an instruction set, or with MTL_ISA_AUTO the best; NULL when the program, the processor or the
   system lacks it. */
static const mtl__kernels *mtl__kernels_choose(int isa)
{
    const mtl__kernels *best = NULL;
    size_t i;
    for (i = 0; mtl__kernel_tables[i]; i++) {
        const mtl__kernels *table = mtl__kernel_tables[i];
        if ((isa == MTL_ISA_AUTO || isa == table->isa) && mtl__cpu_supports(table->isa)) best = table;
    }
    return best;
}

/* The precision that products of a training run get: bf16 where it is asked for and can be had, else f32.
   With MTL__BF16_REFERENCE, which is for tests, the scalar kernels' slow imitation can be had too. */
static int mtl__precision_choose(const mtl__kernels *kernels, int wanted)
{
    int has = kernels && kernels->pack_pairs_forward && kernels->isa == MTL_ISA_AVX512 && mtl__cpu_has_bf16();
#ifdef MTL__BF16_REFERENCE
    has |= kernels && kernels->pack_pairs_forward && kernels->isa == MTL_ISA_SCALAR;
#endif
    return has && wanted == MTL_PRECISION_BF16 ? MTL_PRECISION_BF16 : MTL_PRECISION_F32;
}

MTL__INLINE int mtl__isa_supported(int isa) { return mtl__kernels_choose(isa) != NULL; }

MTL__INLINE const char *mtl__isa_name(int isa)
{
#define MTL__ISA_NAME(number, name) if (isa == (int)(number)) return name;
    MTL_ISA_NAMES(MTL__ISA_NAME)
#undef MTL__ISA_NAME
    return "unknown";
}

/* ===========================================================================================================
   10 >>tensor     parameters and buffers by name, initial values, gradient state, packed matrices
   ===========================================================================================================
   A parameter set is one flat block; a tensor is a named view of it, or a buffer beside it. Gradients lie in
   a block of their own, of all tensors or of some; there may be several such sets. What products read is
   packed (layouts: >>kernels): a *matrix* says which rows of which tensor are packed how, and which biases
   are added up for it. Forward packings belong to the set (a prepared model is read-only); backward packings
   are an object of their own, which also has, where training multiplies in bfloat16, both in pairs.

   A gradient's state tells what of it means something: NONE nothing, ROWS the listed rows, DENSE all. Nothing
   is ever cleared as a whole: the first write assigns.
   -------------------------------------------------------------------------------------------------------- */
typedef struct mtl__matrix {
    struct mtl__matrix *next;
    const mtl_tensor *weight;               /* rows first_row .. first_row + gates*units are
                                               [gates*units][inputs] */
    size_t first_row, gates, units, inputs;
    int order[4];                           /* backward packing: which gate stands in slot g of dz */
    mtl_real *packed;                       /* forward packing, in the set's memory */
    size_t packed_offset, packed_t_offset;  /* in the set's and in the packings' block */
    size_t pairs_offset, pairs_t_offset;    /* forward and backward in pairs, in the packings' block */
    const mtl_tensor *bias[2];              /* packed bias [block][bias_gates][16] = bias[0] + bias[1], either
                                               may be NULL */
    size_t bias_first, bias_gates;          /* gates taken from bias[0]; */
    size_t bias1_gates;                     /* bias[1] is added to this many of them */
    mtl_real *packed_bias;
    size_t bias_offset;
} mtl__matrix;

struct mtl_gradients {
    const mtl_parameters *set;
    mtl_gradient *of;                       /* [count], by tensor index */
    unsigned char **touched;                /* [count] embeddings: [rows] 1 for rows in the list; else NULL */
    mtl_real *block;
    const unsigned char *writes;            /* [count] 0: as if frozen, while a tape is played; NULL: none */
};

struct mtl_packings {
    const mtl_parameters *set;
    mtl_real *block;
    int pairs;                              /* 1: it holds the forward and the backward packings in pairs */
};

MTL__INLINE size_t mtl__row_length(const mtl_tensor *t) { return t->dims == 1 ? 1 : t->shape[1]; }

MTL_DEF void mtl_parameters_init(mtl_parameters *set, mtl_arena *arena)
{
    memset(set, 0, sizeof *set);
    set->arena = arena;
}

MTL_DEF void *mtl_parameters_make(mtl_parameters *set, size_t bytes, mtl_error *err)
{
    mtl_error own;
    return mtl__arena_make(set->arena, 1, bytes, "a layer", mtl__error_given(err, &own));
}

/* Before rows of an embedding are read: none of their updates waits afterwards. ids NULL: all rows. */
static void mtl__parameters_fresh(const mtl_parameters *set, const mtl_tensor *t, const int *ids,
                                  size_t count)
{
    if (set->fresh && (!t || t->role == MTL_TENSOR_EMBEDDING)) set->fresh(set->fresh_owner, t, ids, count);
}
/* The same before any weight may be looked at. */
static void mtl__parameters_settle(const mtl_parameters *set) { mtl__parameters_fresh(set, NULL, NULL, 0); }

/* All tensors of a set by number: its parameters, then its buffers. */
MTL__INLINE size_t mtl__tensor_count(const mtl_parameters *set) { return set->count + set->buffer_count; }
MTL__INLINE mtl_tensor *mtl__tensor_at(const mtl_parameters *set, size_t i)
{
    return i < set->count ? set->tensors[i] : set->buffers[i - set->count];
}
MTL__INLINE int mtl__tensor_is_set(const mtl_tensor *t) { return !t->set || *t->set; }

MTL_DEF mtl_tensor *mtl_parameters_find(const mtl_parameters *set, const char *name)
{
    size_t i;
    mtl__parameters_settle(set);
    for (i = 0; i < mtl__tensor_count(set); i++)
        if (strcmp(mtl__tensor_at(set, i)->name, name) == 0) return mtl__tensor_at(set, i);
    return NULL;
}

/* Puts one more tensor into a table, which doubles when it is full. */
static void mtl__tensor_append(mtl_tensor ***table, size_t *count, size_t *capacity, mtl_tensor *t,
                               mtl_arena *arena, mtl_error *err)
{
    size_t more = *capacity ? *capacity * 2 : 16;
    mtl_tensor **tensors = *table;
    if (*count == *capacity) {
        tensors = (mtl_tensor **)mtl__arena_make(arena, more, sizeof *tensors, "the table of tensors", err);
        if (!tensors) return;
        if (*count) memcpy(tensors, *table, *count * sizeof *tensors);
        *table = tensors;
        *capacity = more;
    }
    tensors[(*count)++] = t;
}

MTL_DEF mtl_tensor *mtl_parameters_add(mtl_parameters *set, const char *name, size_t rows, size_t columns,
                                       int role, mtl_error *err)
{
    mtl_tensor *t;
    size_t count = 0, bytes;
    mtl_error own;
    err = mtl__error_given(err, &own);
    if (mtl__failed(err)) return NULL;
    if (set->block || mtl_parameters_find(set, name)) {
        mtl__fail(err, MTL_ERROR_ARGUMENT, name, -1, set->block
                  ? "%s: the set is allocated already" : "tensor %s exists already", name);
        return NULL;
    }
    if (!mtl__multiply(rows, columns ? columns : 1, &count) ||
        !mtl__multiply(mtl__padded(count), 2 * sizeof(double), &bytes)
        || set->total > (size_t)-1 / 64 - count) {
        mtl__fail(err, MTL_ERROR_MEMORY, name, -1, "tensor %s of %z x %z is larger than memory can be", name,
                  rows, columns);
        return NULL;
    }
    t = (mtl_tensor *)mtl__arena_make(set->arena, 1, sizeof *t, "a tensor", err);
    if (!t) return NULL;
    t->name = mtl__arena_text(set->arena, name, err);
    t->dims = columns ? 2 : 1;
    t->shape[0] = rows;
    t->shape[1] = columns ? columns : 1;
    t->count = count;
    t->role = role;
    t->rate = 1;
    t->gates = 1;
    if (role == MTL_TENSOR_BUFFER) {
        t->frozen = 1;
        t->value = (mtl_real *)mtl__arena_zero(set->arena, count, sizeof(mtl_real), "a buffer", err);
        mtl__tensor_append(&set->buffers, &set->buffer_count, &set->buffer_capacity, t, set->arena, err);
    } else {
        t->offset = set->total;
        t->index = set->count;
        set->total += mtl__padded(count);
        mtl__tensor_append(&set->tensors, &set->count, &set->capacity, t, set->arena, err);
    }
    return mtl__failed(err) ? NULL : t;
}

/* A packing of `gates` groups of `units` rows of `weight`. gate_order: of dz for the backward packing, NULL:
   as they stand. */
static mtl__matrix *mtl__matrix_add(mtl_parameters *set, const mtl_tensor *weight, size_t first_row,
                                    size_t gates, size_t units, const int *gate_order, mtl_error *err)
{
    mtl__matrix *m = (mtl__matrix *)mtl__arena_make(set->arena, 1, sizeof *m, "a matrix", err),
        **end = &set->matrices;
    size_t g;
    if (!m) return NULL;
    m->weight = weight;
    m->first_row = first_row;
    m->gates = gates;
    m->units = units;
    m->inputs = weight->shape[1];
    for (g = 0; g < gates; g++) m->order[g] = gate_order ? gate_order[g] : (int)g;
    m->packed_offset = set->packed_total;
    m->packed_t_offset = set->packed_t_total;
    set->packed_total += mtl__padded(units) * gates * m->inputs;
    set->packed_t_total += mtl__padded(units) * gates * mtl__padded(m->inputs);
    m->pairs_offset = set->pairs_total;
    set->pairs_total += mtl__padded(units) * gates * ((m->inputs + 1) / 2);
    m->pairs_t_offset = set->pairs_total;
    set->pairs_total += mtl__padded(units) / 2 * gates * mtl__padded(m->inputs);
    while (*end) end = &(*end)->next;
    *end = m;
    return m;
}

/* Packed bias of a matrix: gates first .. first+gates-1 of a, plus b in the first b_gates of these. */
static void mtl__matrix_add_bias(mtl_parameters *set, mtl__matrix *m, const mtl_tensor *a,
                                 const mtl_tensor *b, size_t first, size_t gates, size_t b_gates)
{
    if (!m || !a) return;
    m->bias[0] = a;
    m->bias[1] = b;
    m->bias_first = first;
    m->bias_gates = gates;
    m->bias1_gates = b_gates;
    m->bias_offset = set->packed_total;
    set->packed_total += mtl__padded(m->units) * gates;
}

MTL_DEF mtl_status mtl_parameters_allocate(mtl_parameters *set, mtl_error *err)
{
    mtl_error own;
    mtl__matrix *m;
    mtl_real *packed;
    size_t i;
    err = mtl__error_given(err, &own);
    set->block = (mtl_real *)mtl__arena_zero(set->arena, set->total, sizeof(mtl_real), "parameters", err);
    packed = (mtl_real *)mtl__arena_zero(set->arena, set->packed_total, sizeof(mtl_real), "packed weights",
                                         err);
    if (mtl__failed(err)) return mtl__status(err);
    if (set->arena->counting) return MTL_OK;
    for (i = 0; i < set->count; i++) set->tensors[i]->value = set->block + set->tensors[i]->offset;
    for (m = set->matrices; m; m = m->next) {
        m->packed = packed + m->packed_offset;
        m->packed_bias = m->bias[0] ? packed + m->bias_offset : NULL;
    }
    return MTL_OK;
}

/* ---- initial values: one row a rule -------------------------------------------------------------------- */

typedef struct mtl__init {
    const char *name;
    void (*fill)(mtl_tensor *t, uint64_t seed, uint64_t stream);
} mtl__init;

static size_t mtl__init_block(const mtl_tensor *t) { return t->shape[0] / t->gates; }
static double mtl__init_factor(const mtl_tensor *t) { return t->initial != 0 ? (double)t->initial : 1; }

static void mtl__fill_within(mtl_tensor *t, uint64_t seed, uint64_t stream, double bound)
{
    size_t k;
    for (k = 0; k < t->count; k++)
        t->value[k] = (mtl_real)((2 * mtl__random_uniform(seed, stream, k) - 1) * bound);
}

static void mtl__fill_around(mtl_tensor *t, uint64_t seed, uint64_t stream, double deviation)
{
    size_t k;
    for (k = 0; k < t->count; k++) t->value[k] = (mtl_real)(mtl__random_normal(seed, stream, k) * deviation);
}

static void mtl__fill_uniform(mtl_tensor *t, uint64_t seed, uint64_t stream)
{
    mtl__fill_within(t, seed, stream, (double)t->initial);
}

static void mtl__fill_normal(mtl_tensor *t, uint64_t seed, uint64_t stream)
{
    mtl__fill_around(t, seed, stream, mtl__init_factor(t));
}

static void mtl__fill_constant(mtl_tensor *t, uint64_t seed, uint64_t stream)
{
    size_t k;
    (void)(seed + stream);
    for (k = 0; k < t->count; k++) t->value[k] = (mtl_real)t->initial;
}

static void mtl__fill_xavier(mtl_tensor *t, uint64_t seed, uint64_t stream)
{
    double ends = (double)(mtl__init_block(t) + t->shape[1]);
    mtl__fill_within(t, seed, stream, mtl__init_factor(t) * sqrt(6 / ends));
}

static void mtl__fill_he(mtl_tensor *t, uint64_t seed, uint64_t stream)
{
    mtl__fill_around(t, seed, stream, mtl__init_factor(t) * sqrt(2 / (double)t->shape[1]));
}

/* Gram-Schmidt: takes off each vector what it has of those before it, then scales it to length 1; and all of
   it again, since after one round rounding is left of what was taken off (Giraud et al. 2005: two are
   enough). What was normal is spread evenly over all orthogonal matrices afterwards. */
static void mtl__orthogonalise(mtl_real *w, size_t rows, size_t columns)
{
    const size_t count = rows < columns ? rows : columns, length = rows + columns - count;
    const size_t apart = rows <= columns ? columns : 1, step = rows <= columns ? 1 : columns;
    size_t i, j, k;
    for (i = 0; i < 2 * count; i++)
        for (j = 0; j <= i / 2; j++) {
            mtl_real *v = w + i / 2 * apart, *u = w + j * apart;
            double dot = 0, times;
            for (k = 0; k < length; k++) dot += (double)v[k * step] * (double)u[k * step];
            times = u == v ? 1 / sqrt(dot) - 1 : -dot;
            for (k = 0; k < length; k++)
                v[k * step] = (mtl_real)((double)v[k * step] + times * (double)u[k * step]);
        }
}

static MTL__RARE void mtl__fill_orthogonal(mtl_tensor *t, uint64_t seed, uint64_t stream)
{
    const size_t rows = mtl__init_block(t), columns = t->shape[1];
    size_t g, k;
    mtl__fill_around(t, seed, stream, 1);
    for (g = 0; g < t->gates; g++) mtl__orthogonalise(t->value + g * rows * columns, rows, columns);
    for (k = 0; k < t->count; k++) t->value[k] = (mtl_real)((double)t->value[k] * mtl__init_factor(t));
}

static void mtl__fill_identity(mtl_tensor *t, uint64_t seed, uint64_t stream)
{
    const size_t rows = mtl__init_block(t), columns = t->shape[1];
    size_t k;
    (void)(seed + stream);
    for (k = 0; k < t->count; k++)
        t->value[k] = k / columns % rows == k % columns ? (mtl_real)mtl__init_factor(t) : 0;
}

static const mtl__init mtl__inits[] = {
    { "uniform", mtl__fill_uniform },
    { "normal", mtl__fill_normal },
    { "constant", mtl__fill_constant },
    { "xavier", mtl__fill_xavier },
    { "he", mtl__fill_he },
    { "orthogonal", mtl__fill_orthogonal },
    { "identity", mtl__fill_identity }
};

MTL_DEF const char *mtl_init_name(int init)
{
    return init > 0 && (size_t)init <= MTL__COUNT(mtl__inits) ? mtl__inits[init - 1].name : NULL;
}

static void mtl__tensor_fill(mtl_tensor *t, uint64_t seed)
{
    const int init = t->init ? t->init : t->initial != 0 ? MTL_INIT_UNIFORM : MTL_INIT_NORMAL;
    const mtl_init_rows *r = &t->init_rows;
    size_t k, width = mtl__row_length(t);
    mtl__inits[init - MTL_INIT_UNIFORM].fill(t, seed, mtl__hash(MTL__HASH_BEGIN, t->name, strlen(t->name)));
    for (k = r->first * width; k < (r->first + r->count) * width; k++)
        t->value[k] = (mtl_real)r->factor * t->value[k] + (mtl_real)r->addend;
}

MTL_DEF void mtl_parameters_randomise(mtl_parameters *set, unsigned long long seed)
{
    size_t i;
    for (i = 0; i < mtl__tensor_count(set); i++) {
        mtl_tensor *t = mtl__tensor_at(set, i);
        if (!t->set || !*t->set) mtl__tensor_fill(t, seed);
    }
}

/* ---- packed matrices ----------------------------------------------------------------------------------- */

static void mtl__matrix_pack_bias(mtl__matrix *m)
{
    size_t g, u;
    for (g = 0; g < m->bias_gates; g++)
        for (u = 0; u < m->units; u++) {
            size_t row = (m->bias_first + g) * m->units + u;
            mtl_real sum = m->bias[0]->value[row];
            if (m->bias[1] && g < m->bias1_gates) sum += m->bias[1]->value[row];
            m->packed_bias[(u / MTL__BLOCK * m->bias_gates + g) * MTL__BLOCK + u % MTL__BLOCK] = sum;
        }
}

/* Packing is a job per matrix. */
typedef struct mtl__pack_job {
    const mtl__kernels *kernels;
    mtl__matrix **matrices;
    const mtl_packings *packings;           /* NULL: forward packings, else what these hold */
} mtl__pack_job;

static void mtl__matrix_pack(void *context, size_t i)
{
    const mtl__pack_job *job = (const mtl__pack_job *)context;
    mtl__matrix *m = job->matrices[i];
    const mtl_real *w = m->weight->value + m->first_row * m->inputs;
    const mtl_packings *p = job->packings;
    if (p && p->pairs) {
        job->kernels->pack_pairs_forward(m->gates, m->units, m->inputs, w, p->block + m->pairs_offset);
        job->kernels->pack_pairs_backward(m->gates, m->units, m->inputs, w, m->order,
                                          p->block + m->pairs_t_offset);
    } else if (p) {
        job->kernels->pack_backward(m->gates, m->units, m->inputs, w, m->order,
                                    p->block + m->packed_t_offset);
    } else {
        job->kernels->pack_forward(m->gates, m->units, m->inputs, w, m->packed);
        if (m->packed_bias) mtl__matrix_pack_bias(m);
    }
}

/* Packs all matrices of a set: forward (packings NULL), or what the packings hold. */
static void mtl__parameters_pack(const mtl_parameters *set, const mtl__kernels *kernels,
                                 const mtl_scheduler *scheduler, const mtl_packings *packings)
{
    mtl__matrix *m = set->matrices, *group[64];
    mtl__pack_job job;
    job.kernels = kernels;
    job.matrices = group;
    job.packings = packings;
    while (m) {
        size_t n = 0;
        for (; m && n < MTL__COUNT(group); m = m->next) {
            if (m->weight->role == MTL_TENSOR_EMBEDDING) mtl__parameters_fresh(set, m->weight, NULL, 0);
            group[n++] = m;
        }
        mtl__parallel_for(scheduler, n, mtl__matrix_pack, &job);
    }
}

MTL_DEF mtl_status mtl_parameters_prepare(mtl_parameters *set, int isa, mtl_error *err)
{
    mtl_error own;
    const mtl__kernels *kernels = mtl__kernels_choose(isa);
    err = mtl__error_given(err, &own);
    if (mtl__failed(err)) return mtl__status(err);
    if (!kernels)
        return mtl__fail(err, MTL_ERROR_UNSUPPORTED, mtl__isa_name(isa), isa,
                         "this machine has no %s kernels", mtl__isa_name(isa));
    mtl__parameters_pack(set, kernels, NULL, NULL);
    return MTL_OK;
}

/* precision: MTL_PRECISION_*, which the kernels of the runs that use these packings must have. */
static mtl_packings *mtl__packings_build(const mtl_parameters *set, int precision, mtl_arena *arena,
                                         mtl_error *err)
{
    mtl_packings *p = (mtl_packings *)mtl__arena_make(arena, 1, sizeof *p, "packed weights", err);
    if (!p) return NULL;
    p->set = set;
    p->pairs = precision == MTL_PRECISION_BF16;
    p->block = (mtl_real *)mtl__arena_zero(arena, p->pairs ? set->pairs_total : set->packed_t_total,
                                           sizeof(mtl_real), "packed weights", err);
    return mtl__failed(err) ? NULL : p;
}

MTL_DEF mtl_packings *mtl_packings_create(const mtl_parameters *set, mtl_arena *arena, mtl_error *err)
{
    mtl_error own;
    return mtl__packings_build(set, MTL_PRECISION_F32, arena, mtl__error_given(err, &own));
}

MTL_DEF mtl_gradients *mtl_gradients_create_part(const mtl_parameters *set, const unsigned char *wanted,
                                                 mtl_arena *arena, mtl_error *err)
{
    mtl_error own;
    mtl_gradients *g;
    size_t i, total = 0;
    err = mtl__error_given(err, &own);
    g = (mtl_gradients *)mtl__arena_make(arena, 1, sizeof *g, "gradients", err);
    if (!g) return NULL;
    g->set = set;
    g->of = (mtl_gradient *)mtl__arena_make(arena, set->count, sizeof *g->of, "gradients", err);
    g->touched = (unsigned char **)mtl__arena_make(arena, set->count, sizeof *g->touched, "gradients", err);
    for (i = 0; i < set->count; i++)
        if (!wanted || wanted[i]) total += mtl__padded(set->tensors[i]->count);
    g->block = (mtl_real *)mtl__arena_zero(arena, total, sizeof(mtl_real), "gradients", err);
    for (i = total = 0; i < set->count && !mtl__failed(err); i++) {
        const mtl_tensor *t = set->tensors[i];
        if (wanted && !wanted[i]) continue;
        /* never NULL: that would mean left out */
        g->of[i].value = arena->counting ? g->block : g->block + total;
        total += mtl__padded(t->count);
        if (t->role != MTL_TENSOR_EMBEDDING) continue;
        g->of[i].rows = (int *)mtl__arena_zero(arena, t->shape[0], sizeof(int), "gradient rows", err);
        g->touched[i] = (unsigned char *)mtl__arena_zero(arena, t->shape[0], 1, "gradient rows", err);
    }
    return mtl__failed(err) ? NULL : g;
}

MTL_DEF mtl_gradients *mtl_gradients_create(const mtl_parameters *set, mtl_arena *arena, mtl_error *err)
{
    return mtl_gradients_create_part(set, NULL, arena, err);
}

MTL_DEF mtl_gradient *mtl_gradients_get(mtl_gradients *gradients, const mtl_tensor *tensor)
{
    mtl_gradient *g = &gradients->of[tensor->index];
    return tensor->frozen || !g->value ? NULL : g;
}

/* Forgets all gradients: states only, no memory is cleared but the marks of touched rows. */
static void mtl__gradients_reset(mtl_gradients *g)
{
    size_t i, r;
    for (i = 0; i < g->set->count; i++) {
        for (r = 0; r < g->of[i].row_count; r++) g->touched[i][g->of[i].rows[r]] = 0;
        g->of[i].row_count = 0;
        g->of[i].state = MTL_GRAD_NONE;
    }
}

/* Adds `count` rows, ascending and none of them in the list yet, to a ROWS gradient's list: merges from the
   end. */
static void mtl__gradient_add_rows(mtl_gradients *g, const mtl_tensor *t, const int *fresh, size_t count)
{
    mtl_gradient *gradient = &g->of[t->index];
    size_t old = gradient->row_count, to = old + count, k;
    gradient->row_count = to;
    for (k = 0; k < count; k++) g->touched[t->index][fresh[k]] = 1;
    while (count)
        gradient->rows[--to] = old && gradient->rows[old - 1] > fresh[count - 1]
            ? gradient->rows[--old] : fresh[--count];
}

/* ROWS + DENSE = DENSE: rows that were not touched become zero. */
static void mtl__gradient_densify(mtl_gradients *g, const mtl_tensor *t)
{
    mtl_gradient *gradient = &g->of[t->index];
    size_t r;
    for (r = 0; r < t->shape[0]; r++) {
        if (g->touched[t->index][r]) g->touched[t->index][r] = 0;
        else memset(gradient->value + r * t->shape[1], 0, t->shape[1] * sizeof(mtl_real));
    }
    gradient->row_count = 0;
    gradient->state = MTL_GRAD_DENSE;
}

/* A gradient's meaningful elements are `mtl__gradient_ranges` runs; run i begins at *begin and has the
   returned length. */
static size_t mtl__gradient_ranges(const mtl_gradient *g)
{
    return g->state == MTL_GRAD_NONE ? 0 : g->state == MTL_GRAD_DENSE ? 1 : g->row_count;
}
static size_t mtl__gradient_range(const mtl_gradient *g, const mtl_tensor *t, size_t i, size_t *begin)
{
    *begin = g->state == MTL_GRAD_DENSE ? 0 : (size_t)g->rows[i] * t->shape[1];
    return g->state == MTL_GRAD_DENSE ? t->count : t->shape[1];
}

/* ===========================================================================================================
   11 >>batch      ragged sequences to packed time-major rows and back
   ===========================================================================================================
   Sequences are sorted by falling length (equal lengths keep their order); place b is a sequence's rank. Then
   all rows of step 0 are stored, all of step 1, and so on: row offset[t] + b is step t of place b, and
   rows[t] = number of sequences longer than t never increases. No row is padding. Of three sequences s with
   2, 4 and 1 steps:

       the caller's rows                  packed rows n                   which of the caller's rows each is
                 t=0  1   2   3                     t=0  1   2   3                   t=0  1   2   3
       s=0        0   1                   b=0 (s=1)  0   3   5   6       b=0 (s=1)    2   3   4   5
       s=1        2   3   4   5           b=1 (s=0)  1   4               b=1 (s=0)    0   1
       s=2        6                       b=2 (s=2)  2                   b=2 (s=2)    6
                                          rows[t]    3   2   1   1
                                          offset[t]  0   3   5   6

   In memory these columns follow one another: step t is the rows[t] rows from offset[t] on, and what came
   before them in time are the first rows[t] rows of step t - 1. By sequence: the rows of sequence s are
   packed_row[starts[s] + t], t = 0, 1 .. A run may hold several packings, e.g. a batch's steps and the
   characters of its distinct words; what is made of their rows says by its space whose rows it has.
   -------------------------------------------------------------------------------------------------------- */
struct mtl_packing {
    size_t sequences, rows, steps;          /* B, N, T */
    mtl__steps time;                        /* rows[T], offset[T] */
    size_t *step_rows, *step_offset;
    int *order;                             /* [B] the caller's sequence at place b */
    int *place;                             /* [B] place of the caller's sequence s */
    int *lengths;                           /* [B] by place */
    int *last;                              /* [B] packed row of the last step of place b */
    int *starts;                            /* [B] first row of the caller's sequence s in the caller's
                                               order */
    int *caller_row;                        /* [N] which of the caller's rows is packed row n */
    int *packed_row;                        /* [N] its inverse */
    int *caller_sequence;                   /* [N] which of the caller's sequences */
    int *sequence;                          /* [N] place b of packed row n */
    int *previous[2];                       /* [N] row of the step before in reading direction (0 forward, 1
                                               reverse); ~b for a first step: row b of the initial state */
    mtl_space space[2];                     /* by MTL_LEVEL_* */
};

/* Rows of a space, and which of the caller's rows (or sequences) each is. */
static size_t mtl__space_rows(const mtl_space *s)
{
    return s->level == MTL_LEVEL_STEP ? s->packing->rows : s->packing->sequences;
}
static const int *mtl__space_items(const mtl_space *s)
{
    return s->level == MTL_LEVEL_STEP ? s->packing->caller_row : s->packing->order;
}
/* The same with steps told by their sequence: what rows have in common that share a dropout mask. */
static const int *mtl__space_sequences(const mtl_space *s)
{
    return s->level == MTL_LEVEL_STEP ? s->packing->caller_sequence : s->packing->order;
}

static int *mtl__packing_ints(mtl_arena *arena, size_t count, mtl_error *err)
{
    return (int *)mtl__arena_zero(arena, count, sizeof(int), "a batch's row order", err);
}

/* Memory for a packing of at most these sizes. */
static mtl_packing *mtl__packing_push(mtl_arena *arena, size_t sequences, size_t rows, size_t steps,
                                      mtl_error *err)
{
    mtl_packing *p = (mtl_packing *)mtl__arena_make(arena, 1, sizeof *p, "a batch's row order", err);
    int **by_sequence[5], **by_row[6], i;
    if (!p) return NULL;
    by_sequence[0] = &p->order;
    by_sequence[1] = &p->place;
    by_sequence[2] = &p->lengths;
    by_sequence[3] = &p->last;
    by_sequence[4] = &p->starts;
    by_row[0] = &p->caller_row;
    by_row[1] = &p->caller_sequence;
    by_row[2] = &p->sequence;
    by_row[3] = &p->previous[0];
    by_row[4] = &p->previous[1];
    by_row[5] = &p->packed_row;
    for (i = 0; i < 2; i++) {
        p->space[i].packing = p;
        p->space[i].level = i;
    }
    p->sequences = sequences;
    p->rows = rows;
    p->time.steps = p->steps = steps;
    p->time.rows = p->step_rows = (size_t *)mtl__arena_zero(arena, steps + 1, sizeof(size_t),
                                                            "a batch's steps", err);
    p->time.offset = p->step_offset = (size_t *)mtl__arena_zero(arena, steps + 1, sizeof(size_t),
                                                                "a batch's steps", err);
    for (i = 0; i < 5; i++) *by_sequence[i] = mtl__packing_ints(arena, sequences, err);
    for (i = 0; i < 6; i++) *by_row[i] = mtl__packing_ints(arena, rows, err);
    return mtl__failed(err) ? NULL : p;
}

/* Counting sort by falling length: rows[t] counts the sequences longer than t, so place of a length-l
   sequence is rows[l] (all longer ones come first) plus its rank among equals. */
static void mtl__packing_sort(mtl_packing *p, const int *lengths)
{
    size_t t, s;
    size_t *next = p->step_offset;          /* borrowed: next free place of each length, [1 .. T] at t - 1 */
    for (s = 0; s < p->sequences; s++) p->step_rows[lengths[s] - 1]++;
    for (t = p->steps; t-- > 0;) p->step_rows[t] += t + 1 < p->steps ? p->step_rows[t + 1] : 0;
    for (t = 0; t < p->steps; t++) next[t] = t + 1 < p->steps ? p->step_rows[t + 1] : 0;
    for (s = 0; s < p->sequences; s++) {
        size_t b = next[lengths[s] - 1]++;
        p->order[b] = (int)s;
        p->place[s] = (int)b;
        p->lengths[b] = lengths[s];
    }
}

static void mtl__packing_rows(mtl_packing *p)
{
    size_t t, b, offset = 0;
    for (t = 0; t < p->steps; t++) {
        p->step_offset[t] = offset;
        offset += p->step_rows[t];
    }
    for (t = 0; t < p->steps; t++)
        for (b = 0; b < p->step_rows[t]; b++) {
            size_t n = p->step_offset[t] + b;
            int last = (int)t + 1 == p->lengths[b];
            p->sequence[n] = (int)b;
            p->caller_sequence[n] = p->order[b];
            p->caller_row[n] = p->starts[p->order[b]] + (int)t;
            p->previous[0][n] = t ? (int)(p->step_offset[t - 1] + b) : ~(int)b;
            p->previous[1][n] = last ? ~(int)b : (int)(n + p->step_rows[t]);
            if (last) p->last[b] = (int)n;
            p->packed_row[p->caller_row[n]] = (int)n;
        }
}

/* The packing of a batch with these lengths. Errors: RANGE for a length below 1 (position: the sequence). */
static mtl_packing *mtl__packing_create(mtl_arena *arena, const int *lengths, size_t sequences,
                                        mtl_error *err)
{
    mtl_packing *p;
    size_t rows = 0, s;
    int steps = 0;
    if (mtl__failed(err)) return NULL;
    for (s = 0; s < sequences; s++) {
        if (lengths[s] < 1) {
            mtl__fail(err, MTL_ERROR_RANGE, "lengths", (long long)s,
                      "sequence %z has length %d; at least 1 is needed", s, lengths[s]);
            return NULL;
        }
        if (lengths[s] > steps) steps = lengths[s];
        rows += (size_t)lengths[s];
    }
    if (sequences == 0 || rows > 0x7fffffff) {
        mtl__fail(err, MTL_ERROR_RANGE, "lengths", (long long)sequences,
                  "a batch needs 1 sequence at least and 2147483647 rows at most");
        return NULL;
    }
    p = mtl__packing_push(arena, sequences, rows, (size_t)steps, err);
    if (!p || arena->counting) return p;
    for (s = 0, rows = 0; s < sequences; s++) {
        p->starts[s] = (int)rows;
        rows += (size_t)lengths[s];
    }
    mtl__packing_sort(p, lengths);
    mtl__packing_rows(p);
    return p;
}

/* ===========================================================================================================
   12  >>formats   safetensors, JSON, vocabulary, text normalisation, whole files: tensors and strings,
                   nothing of models
   ===========================================================================================================
   Everything read here may come from a stranger: each length, offset, shape and product is checked before it
   is used, and an error names what is wrong and at which byte.
       safetensors file:  [ header bytes: 8, little-endian ][ header: JSON, padded with spaces ][ data ]
       header:            {"__metadata__": {text: text, ...}, name: {"dtype", "shape", "data_offsets": [begin,
                          end]}, ...}
   Offsets count from the start of the data, which the tensors fill without a gap, an overlap or a rest. What
   is written here starts its data at a multiple of 64, so that a mapped file can be used in place.
   Source: github.com/huggingface/safetensors, "Format".
   -------------------------------------------------------------------------------------------------------- */

/* ---- UTF-8 --------------------------------------------------------------------------------------------- */

/* The character at text[0 .. length): its bytes (1 to 4), or 0 if they are not valid UTF-8. */
static size_t mtl__utf8_decode(const char *text, size_t length, uint32_t *character)
{
    static const uint32_t smallest[5] = { 0, 0, 0x80, 0x800, 0x10000 };     /* below: an overlong form */
    const unsigned char *byte = (const unsigned char *)text;
    size_t bytes, i;
    uint32_t c;
    if (!length) return 0;
    c = byte[0];
    *character = c;
    if (c < 0x80) return 1;
    bytes = c >= 0xf8 ? 0 : c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 0;
    if (!bytes || bytes > length) return 0;
    c &= 0x7fu >> bytes;
    for (i = 1; i < bytes; i++) {
        if ((byte[i] & 0xc0) != 0x80) return 0;
        c = c << 6 | (byte[i] & 0x3fu);
    }
    *character = c;
    return c < smallest[bytes] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) ? 0 : bytes;
}

/* Writes a character's bytes into out[4]; returns how many. */
static size_t mtl__utf8_encode(uint32_t c, char *out)
{
    size_t bytes = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4, i;
    static const uint32_t first[5] = { 0, 0, 0xc0, 0xe0, 0xf0 };
    for (i = bytes; i-- > 1; c >>= 6) out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)(first[bytes] | c);
    return bytes;
}

MTL_DEF size_t mtl_text_valid(const char *text, size_t length)
{
    size_t done = 0, bytes = 1;
    uint32_t character;
    uint64_t eight;
    while (done < length && bytes) {
        for (; length - done >= 8; done += 8) {         /* ASCII, most of most texts, by eight bytes */
            memcpy(&eight, text + done, 8);
            if (eight & 0x8080808080808080u) break;
        }
        if (done == length) break;
        bytes = mtl__utf8_decode(text + done, length - done, &character);
        done += bytes;
    }
    return done;
}

/* Capital letters and the way to their small ones: every `step`-th character from first to last. One small
   letter each, as in Unicode's UnicodeData.txt (so no final sigma, and the dotted capital I becomes i). */
static uint32_t mtl__lowercase(uint32_t c)
{
    static const struct { uint16_t first, last, step; int16_t to; } rows[] = {
        { 0x0041, 0x005a, 1, 32 },                                                              /* ASCII */
        { 0x00c0, 0x00d6, 1, 32 }, { 0x00d8, 0x00de, 1, 32 },                                   /* Latin-1 */
        /* Latin Extended-A */
        { 0x0100, 0x012e, 2, 1 }, { 0x0130, 0x0130, 1, -199 }, { 0x0132, 0x0136, 2, 1 },
        { 0x0139, 0x0147, 2, 1 }, { 0x014a, 0x0176, 2, 1 }, { 0x0178, 0x0178, 1, -121 },
            { 0x0179, 0x017d, 2, 1 },
        { 0x0181, 0x0181, 1, 210 }, { 0x0186, 0x0186, 1, 206 }, { 0x018a, 0x018a, 1, 205 },     /* Extended-B:
                                                                                                   Hausa,
                                                                                                   Akan, */
        { 0x018f, 0x018f, 1, 202 }, { 0x0190, 0x0190, 1, 203 }, { 0x0198, 0x0198, 1, 1 },   /* Azerbaijani, */
        { 0x01a0, 0x01a4, 2, 1 }, { 0x01af, 0x01af, 1, 1 },                                  /* Vietnamese, */
        { 0x01cd, 0x01db, 2, 1 }, { 0x01de, 0x01ee, 2, 1 }, { 0x01f8, 0x021e, 2, 1 },   /* Pinyin, Romanian */
        { 0x0222, 0x0232, 2, 1 },
        { 0x0370, 0x0372, 2, 1 }, { 0x0376, 0x0376, 1, 1 },                                     /* Greek */
        { 0x0386, 0x0386, 1, 38 }, { 0x0388, 0x038a, 1, 37 }, { 0x038c, 0x038c, 1, 64 },
            { 0x038e, 0x038f, 1, 63 },
        { 0x0391, 0x03a1, 1, 32 }, { 0x03a3, 0x03ab, 1, 32 }, { 0x03d8, 0x03ee, 2, 1 },
        { 0x0400, 0x040f, 1, 80 }, { 0x0410, 0x042f, 1, 32 }, { 0x0460, 0x0480, 2, 1 },         /* Cyrillic */
        { 0x048a, 0x04be, 2, 1 }, { 0x04c0, 0x04c0, 1, 15 }, { 0x04c1, 0x04cd, 2, 1 },
            { 0x04d0, 0x052e, 2, 1 },
        { 0x1e00, 0x1e94, 2, 1 }, { 0x1e9e, 0x1e9e, 1, -7615 }, { 0x1ea0, 0x1efe, 2, 1 },       /* Latin
                                                                                                   Extended
                                                                                                   Additional
                                                                                                   */
    };
    size_t i;
    for (i = 0; i < MTL__COUNT(rows) && c >= rows[i].first; i++)
        if (c <= rows[i].last && (c - rows[i].first) % rows[i].step == 0)
            return (uint32_t)((int32_t)c + rows[i].to);
    return c;
}

/* The first character of word[length], normalised, as *given bytes; returns how many bytes it takes there. */
static size_t mtl__normalise_character(const char *word, size_t length, int lowercase, int digits,
                                       char bytes[4], size_t *given)
{
    uint32_t character;
    size_t taken = mtl__utf8_decode(word, length, &character);
    if (!taken) {                           /* not UTF-8: the byte stays as it is */
        bytes[0] = *word;
        return *given = 1;
    }
    if (lowercase) character = mtl__lowercase(character);
    if (digits && character >= '0' && character <= '9') character = '0';
    *given = mtl__utf8_encode(character, bytes);
    return taken;
}

MTL_DEF size_t mtl_text_normalise(const char *word, size_t length, int lowercase, int digits, char *out,
                                  size_t size)
{
    size_t used = 0, total = 0, i = 0;
    while (i < length) {
        char bytes[4];
        size_t given, taken;
        taken = mtl__normalise_character(word + i, length - i, lowercase, digits, bytes, &given);
        if (used == total && size > used + given) {      /* nothing was left out yet */
            memcpy(out + used, bytes, given);
            used += given;
        }
        total += given;
        i += taken;
    }
    if (size) out[used] = '\0';
    return total;
}

/* ---- growing text -------------------------------------------------------------------------------------- */

/* Bytes that grow at their end. Sticky: after a failure it takes no more, and mtl__text_check tells why. */
typedef struct mtl__text {
    char *data;                             /* NULL while empty; always followed by a 0 */
    size_t length, capacity;
    mtl_allocator allocator;
    mtl_status failed;                      /* MTL_ERROR_MEMORY or MTL_ERROR_TEXT */
} mtl__text;

/* allocator NULL: malloc. */
static void mtl__text_init(mtl__text *text, const mtl_allocator *allocator)
{
    memset(text, 0, sizeof *text);
    if (allocator) text->allocator = *allocator;
}

static void mtl__text_free(mtl__text *text)
{
    if (text->data) mtl__free(&text->allocator, text->data);
    text->data = NULL;
    text->length = text->capacity = 0;
}

/* Room for `count` more bytes and a 0; returns where they go, NULL when memory is out. They are not yet
   counted. */
static char *mtl__text_reserve(mtl__text *text, size_t count)
{
    size_t need = text->length + count + 1, capacity = text->capacity ? text->capacity : 256;
    char *data;
    if (text->failed) return NULL;
    if (count < (size_t)-1 / 4 && need <= text->capacity) return text->data + text->length;
    while (capacity < need && capacity < (size_t)-1 / 4) capacity *= 2;
    data = count < (size_t)-1 / 4 && capacity >= need
        ? (char *)mtl__allocate(&text->allocator, capacity) : NULL;
    if (!data) {
        text->failed = MTL_ERROR_MEMORY;
        return NULL;
    }
    if (text->length) memcpy(data, text->data, text->length);
    if (text->data) mtl__free(&text->allocator, text->data);
    text->data = data;
    text->capacity = capacity;
    return data + text->length;
}

static void mtl__text_append(mtl__text *text, const char *bytes, size_t count)
{
    char *end = mtl__text_reserve(text, count);
    if (!end) return;
    if (count) memcpy(end, bytes, count);
    end[count] = '\0';
    text->length += count;
}

static void mtl__text_add(mtl__text *text, const char *piece)
{
    mtl__text_append(text, piece, strlen(piece));
}

/* The error that text met, put into err; what: what the text was to become. */
static mtl_status mtl__text_check(const mtl__text *text, const char *what, mtl_error *err)
{
    if (text->failed == MTL_ERROR_MEMORY) return mtl__fail_memory(err, what, text->capacity * 2);
    if (text->failed) return mtl__fail(err, text->failed, what, -1,
                                       "%s: a name or text in it is not valid UTF-8", what);
    return mtl__status(err);
}

/* ---- writing JSON -----------------------------------------------------------------------------------------
   Commas come by themselves: a value or member that does not follow an opening bracket, a colon or a line's
   end is preceded by one. */

static void mtl__text_comma(mtl__text *text)
{
    char last = text->length ? text->data[text->length - 1] : '[';
    if (!strchr("[{:\n", last)) mtl__text_append(text, ",", 1);
}

/* bytes[length] between quotes, escaped. */
static void mtl__text_quote(mtl__text *text, const char *bytes, size_t length)
{
    size_t i, from = 0;
    if (mtl_text_valid(bytes, length) != length && !text->failed) text->failed = MTL_ERROR_TEXT;
    mtl__text_append(text, "\"", 1);
    for (i = 0; i < length; i++) {
        unsigned char c = (unsigned char)bytes[i];
        char escape[7] = "\\u00";
        if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f) continue;
        mtl__text_append(text, bytes + from, i - from);
        from = i + 1;
        escape[4] = "0123456789abcdef"[c >> 4];
        escape[5] = "0123456789abcdef"[c & 15];
        if (c == '"' || c == '\\') {
            escape[1] = (char)c;
            escape[2] = '\0';
        }
        mtl__text_add(text, escape);
    }
    mtl__text_append(text, bytes + from, length - from);
    mtl__text_append(text, "\"", 1);
}

/* '{' or '[', and its end. */
static void mtl__json_open(mtl__text *text, char bracket)
{
    mtl__text_comma(text);
    mtl__text_append(text, &bracket, 1);
}
static void mtl__json_close(mtl__text *text, char bracket) { mtl__text_append(text, &bracket, 1); }

/* "key": of the member whose value comes next. */
static void mtl__json_key(mtl__text *text, const char *key)
{
    mtl__text_comma(text);
    mtl__text_quote(text, key, strlen(key));
    mtl__text_append(text, ":", 1);
}

static void mtl__json_add_text(mtl__text *text, const char *value)
{
    mtl__text_comma(text);
    mtl__text_quote(text, value, strlen(value));
}

/* JSON has no infinity and no NaN: they become null. */
static void mtl__json_add_number(mtl__text *text, double value)
{
    char digits[32];
    mtl_text_from_number(value, digits);
    mtl__text_comma(text);
    mtl__text_add(text, mtl__double_is_finite(value) ? digits : "null");
}

static void mtl__json_add_whole(mtl__text *text, unsigned long long value)
{
    char digits[24];
    mtl__digits(value, digits);
    mtl__text_comma(text);
    mtl__text_add(text, digits);
}

/* ---- reading JSON -----------------------------------------------------------------------------------------
   RFC 8259, strictly. The reader keeps its place in the tree itself, not in the machine's stack, so that
   depth is limited by memory alone. */
enum { MTL__JSON_NULL, MTL__JSON_FLAG, MTL__JSON_NUMBER, MTL__JSON_TEXT, MTL__JSON_ARRAY, MTL__JSON_OBJECT };

typedef struct mtl__json {
    int type;
    size_t count;                           /* ARRAY, OBJECT: members; TEXT, NUMBER: bytes of text */
    const char *text;                       /* TEXT: decoded; NUMBER: as it was written; both followed by a
                                               0 */
    double number;                          /* NUMBER; FLAG: 0 or 1 */
    struct mtl__json **items;               /* [count] */
    const char *key;                        /* in an object: the member's name, followed by a 0 */
    size_t key_length;
    size_t offset;                          /* of its first byte in the file */
    struct mtl__json *up, *last;            /* while reading: what it stands in; ARRAY, OBJECT: newest
                                               member */
    struct mtl__json *before;               /* the member before it */
} mtl__json;

typedef struct mtl__json_reader {
    const char *text;
    size_t length, at;
    size_t base;                            /* the text's own offset in its file, for messages */
    const char *what;                       /* the text's name, for messages */
    char *pool;                             /* decoded texts: never longer than the source */
    mtl__json *spare;                       /* nodes to be used next */
    size_t spare_count;
    mtl_arena *arena;
    mtl_error *err;
} mtl__json_reader;

static mtl_status mtl__json_fail(mtl__json_reader *r, const char *expected)
{
    return mtl__fail(r->err, MTL_ERROR_FORMAT, r->what, (long long)(r->base + r->at),
                     "%s: not valid JSON at byte %z: expected %s",
                     r->what, r->base + r->at, expected);
}

/* The next character, 0 at the end (a zero byte in the text is no JSON either). */
MTL__INLINE char mtl__json_peek(const mtl__json_reader *r)
{
    return r->at < r->length ? r->text[r->at] : '\0';
}

static char mtl__json_skip_space(mtl__json_reader *r)
{
    while (r->at < r->length && (r->text[r->at] == ' ' || r->text[r->at] == '\n' || r->text[r->at] == '\t' ||
                                 r->text[r->at] == '\r'))
        r->at++;
    return mtl__json_peek(r);
}

static mtl__json *mtl__json_new(mtl__json_reader *r, int type)
{
    mtl__json *node;
    if (!r->spare_count) {
        r->spare_count = r->length < 4096 ? 16 : 1024;
        r->spare = (mtl__json *)mtl__arena_zero(r->arena, r->spare_count, sizeof *r->spare, "JSON", r->err);
        if (!r->spare) return NULL;
    }
    node = r->spare++;
    r->spare_count--;
    node->type = type;
    node->offset = r->base + r->at;
    return node;
}

/* Four hexadecimal digits, or -1. */
static long mtl__json_hex(mtl__json_reader *r)
{
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    long value = 0;
    int i;
    for (i = 0; i < 4; i++, r->at++) {
        char c = mtl__json_peek(r);
        const char *digit = c ? strchr(digits, c) : NULL;
        if (!digit) return -1;
        value = value * 16 + (long)(digit - digits) % 16;
    }
    return value;
}

/* \uXXXX, or two of them that make one character, after the u. */
static mtl_status mtl__json_unicode(mtl__json_reader *r)
{
    long high = mtl__json_hex(r), low;
    if (high < 0) return mtl__json_fail(r, "four hexadecimal digits after \\u");
    if (high >= 0xd800 && high <= 0xdfff) {
        int pair = high < 0xdc00 && r->length - r->at >= 6 && r->text[r->at] == '\\' &&
            r->text[r->at + 1] == 'u';
        if (pair) r->at += 2;
        low = pair ? mtl__json_hex(r) : -1;
        if (low < 0xdc00 || low > 0xdfff) return mtl__json_fail(r, "the second half of a surrogate pair");
        high = 0x10000 + (high - 0xd800) * 1024 + (low - 0xdc00);
    }
    r->pool += mtl__utf8_encode((uint32_t)high, r->pool);
    return MTL_OK;
}

static mtl_status mtl__json_escape(mtl__json_reader *r)
{
    static const char codes[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    char c = mtl__json_peek(r);
    const char *code = c ? strchr(codes, c) : NULL;
    if (!code && c != 'u') return mtl__json_fail(r, "one of \"\\/bfnrtu after \\");
    r->at++;
    if (!code) return mtl__json_unicode(r);
    *r->pool++ = meanings[code - codes];
    return MTL_OK;
}

/* Copies what needs no second look, nearly all of every text: printable ASCII but quotes and backslashes. */
static void mtl__json_plain(mtl__json_reader *r)
{
    const char *from = r->text + r->at, *end = r->text + r->length, *c = from;
    while (c < end && (unsigned)*c - 0x20u < 0x60u && *c != '"' && *c != '\\') c++;
    memcpy(r->pool, from, (size_t)(c - from));
    r->pool += c - from;
    r->at += (size_t)(c - from);
}

/* A text between quotes, decoded into the pool. */
static const char *mtl__json_string(mtl__json_reader *r, size_t *length)
{
    char *start = r->pool;
    r->at++;
    for (;;) {
        uint32_t character = 0;
        size_t bytes;
        mtl__json_plain(r);
        bytes = mtl__utf8_decode(r->text + r->at, r->length - r->at, &character);
        if (r->at == r->length) mtl__json_fail(r, "the closing quote of a text");
        else if (!bytes) mtl__json_fail(r, "valid UTF-8");
        else if (character < 0x20) mtl__json_fail(r, "no control character in a text");
        if (mtl__failed(r->err)) return NULL;
        if (character == '\\') {
            r->at++;
            if (mtl__json_escape(r) != MTL_OK) return NULL;
            continue;
        }
        r->at += bytes;
        if (character == '"') break;
        memcpy(r->pool, r->text + r->at - bytes, bytes);
        r->pool += bytes;
    }
    *length = (size_t)(r->pool - start);
    *r->pool++ = '\0';
    return start;
}

static size_t mtl__json_digits(mtl__json_reader *r)
{
    size_t from = r->at;
    while (mtl__is_digit(mtl__json_peek(r))) r->at++;
    return r->at - from;
}

/* -? (0 | [1-9] digits) (. digits)? ([eE] [+-]? digits)? */
static mtl_status mtl__json_number_scan(mtl__json_reader *r)
{
    if (mtl__json_peek(r) == '-') r->at++;
    if (mtl__json_peek(r) == '0') r->at++;
    else if (!mtl__json_digits(r)) return mtl__json_fail(r, "a digit");
    if (mtl__json_peek(r) == '.') {
        r->at++;
        if (!mtl__json_digits(r)) return mtl__json_fail(r, "a digit after the point");
    }
    if (mtl__json_peek(r) == 'e' || mtl__json_peek(r) == 'E') {
        r->at++;
        if (mtl__json_peek(r) == '+' || mtl__json_peek(r) == '-') r->at++;
        if (!mtl__json_digits(r)) return mtl__json_fail(r, "a digit of the exponent");
    }
    return MTL_OK;
}

static mtl__json *mtl__json_read_number(mtl__json_reader *r)
{
    mtl__json *node = mtl__json_new(r, MTL__JSON_NUMBER);
    size_t from = r->at;
    if (!node || mtl__json_number_scan(r) != MTL_OK) return NULL;
    if (!mtl_text_number(r->text + from, r->at - from, &node->number)) {
        r->at = from;
        mtl__json_fail(r, "a number that a double can hold");
        return NULL;
    }
    node->count = r->at - from;
    node->text = r->pool;
    memcpy(r->pool, r->text + from, node->count);
    r->pool += node->count;
    *r->pool++ = '\0';
    return node;
}

static mtl__json *mtl__json_read_name(mtl__json_reader *r)
{
    static const struct { const char *name; int type; double number; } names[] = {
        { "null", MTL__JSON_NULL, 0 }, { "false", MTL__JSON_FLAG, 0 }, { "true", MTL__JSON_FLAG, 1 } };
    size_t i;
    for (i = 0; i < MTL__COUNT(names); i++) {
        size_t length = strlen(names[i].name);
        if (r->length - r->at >= length && memcmp(r->text + r->at, names[i].name, length) == 0) {
            mtl__json *node = mtl__json_new(r, names[i].type);
            if (node) node->number = names[i].number;
            r->at += length;
            return node;
        }
    }
    mtl__json_fail(r, "a value");
    return NULL;
}

/* A value; of an array or object its opening bracket. */
static mtl__json *mtl__json_read_value(mtl__json_reader *r)
{
    char c = mtl__json_skip_space(r);
    mtl__json *node;
    if (c == '-' || mtl__is_digit(c)) return mtl__json_read_number(r);
    if (c != '"' && c != '[' && c != '{') return mtl__json_read_name(r);
    node = mtl__json_new(r, c == '"' ? MTL__JSON_TEXT : c == '[' ? MTL__JSON_ARRAY : MTL__JSON_OBJECT);
    if (!node) return NULL;
    if (c == '"') node->text = mtl__json_string(r, &node->count);
    else r->at++;
    return mtl__failed(r->err) ? NULL : node;
}

/* The next member of `up` (NULL: the whole text's one value), with its name in an object. */
static mtl__json *mtl__json_read_member(mtl__json_reader *r, mtl__json *up)
{
    const char *key = NULL;
    size_t key_length = 0;
    mtl__json *node;
    if (up && up->type == MTL__JSON_OBJECT) {
        if (mtl__json_skip_space(r) != '"') mtl__json_fail(r, "a member's name in quotes");
        else key = mtl__json_string(r, &key_length);
        if (key && mtl__json_skip_space(r) != ':') mtl__json_fail(r, "a colon");
        if (mtl__failed(r->err)) return NULL;
        r->at++;
    }
    node = mtl__json_read_value(r);
    if (!node) return NULL;
    node->key = key;
    node->key_length = key_length;
    node->up = up;
    if (up) {
        node->before = up->last;
        up->last = node;
        up->count++;
    }
    return node;
}

/* At the end of an array or object: its members as a list. */
static void mtl__json_collect(mtl__json_reader *r, mtl__json *node)
{
    mtl__json *item = node->last;
    size_t i = node->count;
    r->at++;
    if (!i) return;
    node->items = (mtl__json **)mtl__arena_zero(r->arena, i, sizeof *node->items, "JSON", r->err);
    for (; node->items && item; item = item->before) node->items[--i] = item;
}

MTL__INLINE char mtl__json_closer(const mtl__json *node) { return node->type == MTL__JSON_ARRAY ? ']' : '}'; }

/* After a value inside `up`: closes what ends here. Returns what the next member belongs to, NULL at the end
   of all. */
static mtl__json *mtl__json_read_ends(mtl__json_reader *r, mtl__json *up)
{
    while (up && !mtl__failed(r->err)) {
        char c = mtl__json_skip_space(r);
        if (c == ',') {
            r->at++;
            return up;
        }
        if (c != mtl__json_closer(up)) mtl__json_fail(r, up->type == MTL__JSON_ARRAY
                                                      ? "a comma or ]" : "a comma or }");
        else mtl__json_collect(r, up);
        up = up->up;
    }
    return NULL;
}

/* The tree of text[length], in `arena`; NULL on error. what: its name for messages; base: its offset in the
   file. */
static MTL__RARE mtl__json *mtl__json_parse(const char *text, size_t length, const char *what, size_t base,
                                            mtl_arena *arena, mtl_error *err)
{
    mtl__json_reader r;
    mtl__json *root = NULL, *up = NULL, *node;
    memset(&r, 0, sizeof r);
    r.text = text;
    r.length = length;
    r.base = base;
    r.what = what;
    r.arena = arena;
    r.err = err;
    /* A text loses its quotes and gains a 0; a number gains a 0 and is followed by at least one byte or the
       end. */
    r.pool = (char *)mtl__arena_zero(arena, length + 1, 1, "JSON", err);
    if (!r.pool) return NULL;
    do {
        node = mtl__json_read_member(&r, up);
        if (!node) return NULL;
        if (!root) root = node;
        if (node->type >= MTL__JSON_ARRAY) {
            up = node;
            if (mtl__json_skip_space(&r) != mtl__json_closer(node)) continue;
        }
        up = mtl__json_read_ends(&r, up);
    } while (up);
    mtl__json_skip_space(&r);
    if (!mtl__failed(err) && r.at < length) mtl__json_fail(&r, "nothing after the value");
    return mtl__failed(err) ? NULL : root;
}

/* Member i of an array or object; NULL if there is none. */
static const mtl__json *mtl__json_at(const mtl__json *node, size_t i)
{
    return node && node->type >= MTL__JSON_ARRAY && i < node->count ? node->items[i] : NULL;
}

static size_t mtl__json_count(const mtl__json *node)
{
    return node && node->type >= MTL__JSON_ARRAY ? node->count : 0;
}

/* An object's member by name (of two the later one); NULL if there is none. */
static const mtl__json *mtl__json_get(const mtl__json *node, const char *key)
{
    size_t i = node && node->type == MTL__JSON_OBJECT ? node->count : 0, length = strlen(key);
    while (i-- > 0)
        if (node->items[i]->key_length == length && memcmp(node->items[i]->key, key, length) == 0)
            return node->items[i];
    return NULL;
}

/* Typed reading of a node that may be NULL (missing): name is what messages call it. */
static mtl_status mtl__json_wrong(const mtl__json *node, const char *name, const char *expected,
                                  mtl_error *err)
{
    if (!node) return mtl__fail(err, MTL_ERROR_FORMAT, name, -1, "%s is missing: expected %s", name,
                                expected);
    return mtl__fail(err, MTL_ERROR_FORMAT, name, (long long)node->offset, "%s, at byte %z, is not %s", name,
                     node->offset, expected);
}

static double mtl__json_number(const mtl__json *node, const char *name, mtl_error *err)
{
    if (node && node->type == MTL__JSON_NUMBER) return node->number;
    mtl__json_wrong(node, name, "a number", err);
    return 0;
}

/* A whole number from 0 to most, exact to all 64 bits, written without point and exponent. */
static unsigned long long mtl__json_whole(const mtl__json *node, const char *name, unsigned long long most,
                                          mtl_error *err)
{
    unsigned long long value = 0;
    size_t i;
    int fits = node && node->type == MTL__JSON_NUMBER;
    for (i = 0; fits && i < node->count; i++) {
        unsigned digit = (unsigned)(node->text[i] - '0');
        fits = mtl__is_digit(node->text[i]) && (value < most / 10 ||
                                                (value == most / 10 && digit <= most % 10));
        value = value * 10 + digit;
    }
    if (fits) return value;
    mtl__json_wrong(node, name, "a whole number in range", err);
    return 0;
}

/* A whole number from low to high. */
static int mtl__json_int(const mtl__json *node, const char *name, int low, int high, mtl_error *err)
{
    if (node && node->type == MTL__JSON_NUMBER && node->number >= low && node->number <= high &&
        (double)(int)node->number == node->number) return (int)node->number;
    mtl__json_wrong(node, name, "a whole number in range", err);
    return low;
}

/* A text without zero bytes, so that C can hold it; memory of the arena. */
static const char *mtl__json_text(const mtl__json *node, const char *name, mtl_error *err)
{
    if (node && node->type == MTL__JSON_TEXT && strlen(node->text) == node->count) return node->text;
    mtl__json_wrong(node, name, "a text without zero bytes", err);
    return "";
}

/* ---- vocabulary -------------------------------------------------------------------------------------------
   Words and their indices: open addressing, linear probing, at most half full. */

typedef struct mtl__vocabulary {
    size_t count;
    const char *const *words;               /* [count] the caller's */
    unsigned *slots;                        /* [slot_count] index + 1; 0: free */
    size_t slot_count;                      /* a power of two */
} mtl__vocabulary;

/* Where the search for a word of this hash begins: no half of the hash is left out. */
static size_t mtl__vocabulary_begin(const mtl__vocabulary *vocabulary, uint64_t hash)
{
    return (size_t)(hash ^ hash >> 32) & (vocabulary->slot_count - 1);
}

/* The slot of a word, or the free one where it belongs. */
static unsigned *mtl__vocabulary_slot(const mtl__vocabulary *vocabulary, const char *word, size_t length)
{
    size_t mask = vocabulary->slot_count - 1,
           i = mtl__vocabulary_begin(vocabulary, mtl__hash(MTL__HASH_BEGIN, word, length));
    for (; vocabulary->slots[i]; i = (i + 1) & mask) {
        const char *other = vocabulary->words[vocabulary->slots[i] - 1];
        if (strlen(other) == length && memcmp(other, word, length) == 0) break;
    }
    return &vocabulary->slots[i];
}

/* Index of word[length], or -1. */
static int mtl__vocabulary_find(const mtl__vocabulary *vocabulary, const char *word, size_t length)
{
    return vocabulary->slot_count ? (int)*mtl__vocabulary_slot(vocabulary, word, length) - 1 : -1;
}

/* 1 when word[length] is `other` once it is normalised. */
static int mtl__normalises_to(const char *word, size_t length, int lowercase, int digits, const char *other)
{
    size_t at = 0, given, left = strlen(other);
    char bytes[4];
    while (at < length) {
        at += mtl__normalise_character(word + at, length - at, lowercase, digits, bytes, &given);
        if (given > left || memcmp(bytes, other, given) != 0) return 0;
        other += given;
        left -= given;
    }
    return !left;
}

/* Index of what word[length] is once it is normalised, or -1; of any length, without memory for what it
   becomes. */
static int mtl__vocabulary_find_normalised(const mtl__vocabulary *vocabulary, const char *word, size_t length,
                                           int lowercase, int digits)
{
    uint64_t hash = MTL__HASH_BEGIN;
    size_t mask = vocabulary->slot_count - 1, at = 0, given, i;
    char bytes[4];
    if (!vocabulary->slot_count) return -1;
    while (at < length) {
        at += mtl__normalise_character(word + at, length - at, lowercase, digits, bytes, &given);
        hash = mtl__hash(hash, bytes, given);
    }
    for (i = mtl__vocabulary_begin(vocabulary, hash); vocabulary->slots[i]; i = (i + 1) & mask) {
        int found = (int)vocabulary->slots[i] - 1;
        if (mtl__normalises_to(word, length, lowercase, digits, vocabulary->words[found])) return found;
    }
    return -1;
}

/* words[count] stay the caller's; the table goes into arena. Error: TEXT naming a word that stands twice,
   position: its index. */
static mtl_status mtl__vocabulary_init(mtl__vocabulary *vocabulary, const char *const *words, size_t count,
                                       mtl_arena *arena, mtl_error *err)
{
    size_t i, slots = 8;
    memset(vocabulary, 0, sizeof *vocabulary);
    if (mtl__failed(err)) return mtl__status(err);
    if (count > 0x7fffffff) return mtl__fail(err, MTL_ERROR_LIMIT, "words", (long long)count,
                                             "%z words are too many", count);
    while (slots < 2 * count) slots *= 2;
    vocabulary->slots = (unsigned *)mtl__arena_zero(arena, slots, sizeof *vocabulary->slots, "a vocabulary",
                                                    err);
    if (!vocabulary->slots || arena->counting) return mtl__status(err);
    vocabulary->words = words;
    vocabulary->slot_count = slots;
    for (i = 0; i < count; i++) {
        unsigned *slot = mtl__vocabulary_slot(vocabulary, words[i], strlen(words[i]));
        if (*slot) return mtl__fail(err, MTL_ERROR_TEXT, words[i], (long long)i,
                                    "'%s' stands twice: at %z and at %z", words[i], (size_t)(*slot - 1), i);
        *slot = (unsigned)i + 1;
        vocabulary->count = i + 1;
    }
    return MTL_OK;
}

/* ---- whole files --------------------------------------------------------------------------------------- */

/* verb: "read" or "write"; error: errno's number. Of a long path the end is shown. */
static mtl_status mtl__file_fail(mtl_error *err, const char *verb, const char *path, int error)
{
    const size_t most = 150, length = strlen(path);
    const char *shown = length > most ? path + length - most : path;
    while (((unsigned char)*shown & 0xc0) == 0x80) shown++;
    return mtl__fail(err, error == ENOMEM ? MTL_ERROR_MEMORY : MTL_ERROR_IO, path, -1,
                     "cannot %s '%s%s': %s%s", verb, shown == path ? "" : "...", shown, strerror(error),
                         mtl__os_advice(error, verb[0] == 'w'));
}

/* Starts an atomic save to path; `saver` is the caller's and must stay until mtl__file_save_end, which must
   be called if this succeeded. The writer's error need not be looked at: mtl__file_save_end tells it. */
static MTL__RARE mtl_status mtl__file_save_begin(const char *path, mtl_writer *writer,
                                                 mtl__file_writer *saver, mtl_error *err)
{
    int error;
    if (mtl__failed(err)) return mtl__status(err);
    if (!path) return mtl__fail(err, MTL_ERROR_ARGUMENT, "path", -1, "path is NULL: give the name of a file");
    writer->user = saver;
    writer->write = mtl__file_writer_write;
    error = mtl__file_writer_open(saver, path);
    return error ? mtl__file_fail(err, "write", path, error) : MTL_OK;
}

/* Puts the new file in the place of the old one if err is not set; else the old file stays. */
static mtl_status mtl__file_save_end(const char *path, mtl__file_writer *saver, mtl_error *err)
{
    int error = mtl__file_writer_close(saver, !mtl__failed(err));
    if (!error) return mtl__status(err);
    if (err->code == MTL_ERROR_IO) mtl_error_clear(err);   /* it only says that this file took no more; here
                                                              is why */
    return mtl__file_fail(err, "write", path, error);
}

/* A file's bytes, mapped or read into malloc's memory. */
typedef struct mtl__file_view {
    const void *bytes;
    size_t count;
    void *memory;                           /* what to give back */
    size_t mapped_bytes;                    /* > 0: memory is a mapping */
} mtl__file_view;

static void mtl__file_unmap(mtl__file_view *view)
{
    if (view->mapped_bytes) mtl__os_unmap(view->memory, view->mapped_bytes);
    else mtl__release(view->memory);
    memset(view, 0, sizeof *view);
}

/* Everything that a reader gives, added to text. */
static mtl_status mtl__text_read(mtl__text *text, const mtl_reader *reader, const char *what, mtl_error *err)
{
    size_t want = 65536, got = want;
    while (got == want && !mtl__failed(err)) {
        char *end;
        want = text->length > 65536 ? text->length : 65536;         /* doubling: each byte is copied about
                                                                       once */
        end = mtl__text_reserve(text, want);
        if (!end) return mtl__text_check(text, what, err);
        got = reader->read(reader->user, end, want);
        if (got > want)
            return mtl__fail(err, MTL_ERROR_ARGUMENT, what, -1,
                             "%s: the reader gave more bytes than asked for", what);
        text->length += got;
        text->data[text->length] = '\0';
    }
    return mtl__status(err);
}

typedef struct mtl__file_source { mtl__handle handle; int error; } mtl__file_source;

static size_t mtl__file_source_read(void *user, void *bytes, size_t count)
{
    mtl__file_source *source = (mtl__file_source *)user;
    return mtl__os_read(source->handle, bytes, count, &source->error);
}

static mtl_status mtl__file_read_all(mtl__file_view *view, const char *path, mtl__handle handle,
                                     mtl_error *err)
{
    mtl__file_source source;
    mtl_reader reader;
    mtl__text text;
    source.handle = handle;
    source.error = 0;
    reader.user = &source;
    reader.read = mtl__file_source_read;
    mtl__text_init(&text, NULL);
    mtl__text_read(&text, &reader, path, err);
    if (source.error && !mtl__failed(err)) mtl__file_fail(err, "read", path, source.error);
    if (mtl__failed(err)) {
        mtl__text_free(&text);
        return mtl__status(err);
    }
    view->bytes = view->memory = text.data;
    view->count = text.length;
    return MTL_OK;
}

/* All of a file for reading; the bytes must not be changed and stay until mtl__file_unmap. */
static mtl_status mtl__file_map(mtl__file_view *view, const char *path, mtl_error *err)
{
    mtl__handle handle;
    int error;
    memset(view, 0, sizeof *view);
    if (mtl__failed(err)) return mtl__status(err);
    if (!path) return mtl__fail(err, MTL_ERROR_ARGUMENT, "path", -1, "path is NULL: give the name of a file");
    error = mtl__os_open(path, MTL__OPEN_READ, &handle);
    if (error) return mtl__file_fail(err, "read", path, error);
    if (mtl__os_map(handle, &view->memory, &view->mapped_bytes)) {
        view->bytes = view->memory;
        view->count = view->mapped_bytes;
    } else {
        mtl__file_read_all(view, path, handle, err);
    }
    mtl__os_close(handle);
    return mtl__status(err);
}

/* ---- safetensors: tensor values ------------------------------------------------------------------------ */

/* in the order of MTL_TYPE_* */
static const struct { const char *name; size_t bytes; } mtl__types[MTL_TYPE_COUNT] = {
    { "F32", 4 }, { "F64", 8 }, { "F16", 2 }, { "BF16", 2 }, { "I64", 8 }, { "I32", 4 }, { "I16", 2 },
        { "I8", 1 }, { "U8", 1 },
    { "BOOL", 1 }, { "U16", 2 }, { "U32", 4 }, { "U64", 8 }, { "F8_E4M3", 1 }, { "F8_E5M2", 1 }, { "C64", 8 },
        { "another type", 0 } };

MTL__INLINE int mtl__big_endian(void)
{
    const uint16_t one = 1;
    unsigned char first;
    memcpy(&first, &one, 1);
    return !first;
}

/* A little-endian whole number of `bytes` bytes at any address. */
MTL__INLINE uint64_t mtl__load_little(const unsigned char *from, size_t bytes)
{
    uint64_t value = 0;
    while (bytes-- > 0) value = value << 8 | from[bytes];
    return value;
}

/* Copies `count` elements between this machine's byte order and the file's; they are the same on most
   machines. */
static void mtl__copy_little(void *out, const void *from, size_t count, size_t bytes)
{
    const unsigned char *source = (const unsigned char *)from;
    unsigned char *target = (unsigned char *)out;
    size_t i, j;
    if (!mtl__big_endian()) {
        if (count) memcpy(out, from, count * bytes);
        return;
    }
    for (i = 0; i < count; i++)
        for (j = 0; j < bytes; j++) target[i * bytes + j] = source[i * bytes + bytes - 1 - j];
}

MTL__INLINE float mtl__float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* IEEE half precision: 1 sign, 5 exponent, 10 mantissa bits. */
static float mtl__float_of_half(uint32_t half)
{
    uint32_t sign = (half & 0x8000) << 16, exponent = half >> 10 & 31, mantissa = half & 0x3ff;
    if (exponent == 31) return mtl__float_of_bits(sign | 0x7f800000u | mantissa << 13);
    if (exponent) return mtl__float_of_bits(sign | (exponent + 112) << 23 | mantissa << 13);
    if (!mantissa) return mtl__float_of_bits(sign);
    for (exponent = 113; !(mantissa & 0x400); exponent--) mantissa <<= 1;    /* denormals are normal floats */
    return mtl__float_of_bits(sign | exponent << 23 | (mantissa & 0x3ff) << 13);
}

static mtl_real mtl__load_real(const unsigned char *from, int type)
{
    double value;
    uint64_t bits = mtl__load_little(from, mtl__types[type].bytes);
    switch (type) {
    case MTL_TYPE_F32: return (mtl_real)mtl__float_of_bits((uint32_t)bits);
    case MTL_TYPE_F16: return (mtl_real)mtl__float_of_half((uint32_t)bits);
    case MTL_TYPE_BF16: return (mtl_real)mtl__float_of_bits((uint32_t)bits << 16);
    default:
        memcpy(&value, &bits, sizeof value);
        return (mtl_real)value;
    }
}

MTL_DEF mtl_status mtl_safetensor_values(const mtl_safetensor *tensor, mtl_real *out, mtl_error *err)
{
    const int own_type = MTL__REAL_IS_DOUBLE ? MTL_TYPE_F64 : MTL_TYPE_F32;
    mtl_error own;
    size_t i;
    err = mtl__error_given(err, &own);
    if (!mtl__given(tensor, "tensor", err) || (tensor->count && !mtl__given(out, "out", err)))
        return mtl__status(err);
    if (tensor->type < 0 || tensor->type > MTL_TYPE_BF16)
        return mtl__fail(err, MTL_ERROR_TENSOR, tensor->name, tensor->type,
                         "tensor '%s' does not hold floating-point numbers that are read here (F32, F64, "
                         "F16, BF16)", tensor->name);
    if (tensor->type == own_type) {
        mtl__copy_little(out, tensor->data, tensor->count, sizeof *out);
    } else {
        const unsigned char *data = (const unsigned char *)tensor->data;
        for (i = 0; i < tensor->count; i++) out[i] = mtl__load_real(data + i * mtl__types[tensor->type].bytes,
                                                                    tensor->type);
    }
    return MTL_OK;
}

/* ---- safetensors: reading ------------------------------------------------------------------------------ */

enum { MTL__HEADER_MOST = 100000000 };      /* as the official reader */

/* A tensor while its file is checked. */
typedef struct mtl__tensor_span {
    uint64_t begin, end;                    /* in the data */
    mtl_safetensor *tensor;
    size_t offset;                          /* of its description in the file, for messages */
} mtl__tensor_span;

static mtl_status mtl__tensor_fail(mtl_error *err, const char *name, size_t offset, const char *problem)
{
    return mtl__fail(err, MTL_ERROR_FORMAT, name, (long long)offset, "tensor '%s', described at byte %z: %s",
                     name, offset, problem);
}

/* Bytes of the header's text, after checking that the file holds it; 0 on error. */
static size_t mtl__safetensors_header(const unsigned char *bytes, size_t count, mtl_error *err)
{
    uint64_t length;
    if (count < 9) {
        mtl__fail(err, MTL_ERROR_FORMAT, "header", (long long)count,
                  "not a safetensors file: it has %z bytes, too few for a header; give a file that mtl "
                  "train or mtl_model_save wrote",
                  count);
        return 0;
    }
    length = mtl__load_little(bytes, 8);
    if (length > MTL__HEADER_MOST || length < 2 || bytes[8] != '{')
        mtl__fail(err, MTL_ERROR_FORMAT, "header", 0,
                  "not a safetensors file: it does not begin with a header length and '{'; give a file that "
                  "mtl train or mtl_model_save wrote");
    else if (length > count - 8)
        mtl__fail(err, MTL_ERROR_FORMAT, "header", (long long)count,
                  "the file is cut short: its header ends at byte %l, the file at byte %z; copy it or save "
                  "it again", (long long)length + 8, count);
    return mtl__failed(err) ? 0 : (size_t)length;
}

static mtl_status mtl__safetensors_type(mtl_safetensor *tensor, const mtl__json *node, size_t offset,
                                        mtl_error *err)
{
    if (!node || node->type != MTL__JSON_TEXT)
        return mtl__tensor_fail(err, tensor->name, offset, "dtype is missing or not a text");
    for (tensor->type = 0; tensor->type < MTL_TYPE_OTHER; tensor->type++)
        if (strcmp(mtl__types[tensor->type].name, node->text) == 0) break;
    return MTL_OK;
}

static mtl_status mtl__safetensors_shape(mtl_safetensor *tensor, const mtl__json *node, size_t offset,
                                         mtl_error *err)
{
    size_t i;
    if (!node || node->type != MTL__JSON_ARRAY)
        return mtl__tensor_fail(err, tensor->name, offset, "shape is missing or not a list");
    if (node->count > MTL__COUNT(tensor->shape))
        return mtl__tensor_fail(err, tensor->name, node->offset, "its shape has more than 8 dimensions");
    tensor->dims = (int)node->count;
    tensor->count = 1;
    for (i = 0; i < node->count; i++) {
        tensor->shape[i] = (size_t)mtl__json_whole(node->items[i], tensor->name, (size_t)-1 / 2, err);
        if (!mtl__failed(err) && !mtl__multiply(tensor->count, tensor->shape[i], &tensor->count))
            mtl__tensor_fail(err, tensor->name, node->offset, "its shape is larger than memory");
        if (mtl__failed(err)) return mtl__status(err);
    }
    return MTL_OK;
}

/* data_offsets, which must be as far apart as type and shape say (of a type that is not known here nobody
   reads them). */
static mtl_status mtl__safetensors_extent(mtl__tensor_span *span, const mtl__json *node, size_t data_bytes,
                                          mtl_error *err)
{
    const mtl_safetensor *tensor = span->tensor;
    size_t bytes, size = mtl__types[tensor->type].bytes;
    if (mtl__failed(err)) return mtl__status(err);
    if (!node || node->type != MTL__JSON_ARRAY || node->count != 2)
        return mtl__tensor_fail(err, tensor->name, span->offset,
                                "data_offsets is missing or not a list of two");
    span->begin = mtl__json_whole(node->items[0], tensor->name, (size_t)-1 / 2, err);
    span->end = mtl__json_whole(node->items[1], tensor->name, (size_t)-1 / 2, err);
    if (mtl__failed(err)) return mtl__status(err);
    if (span->begin > span->end) return mtl__tensor_fail(err, tensor->name, node->offset,
                                                         "its data ends before it begins");
    if (span->end > data_bytes)
        return mtl__fail(err, MTL_ERROR_FORMAT, tensor->name, (long long)node->offset,
                         "tensor '%s', described at byte %z: its data ends at %l of %z bytes; the file is "
                         "cut short: copy it or save it again",
                         tensor->name, node->offset, (long long)span->end, data_bytes);
    if (size && (!mtl__multiply(tensor->count, size, &bytes) || bytes != span->end - span->begin))
        return mtl__tensor_fail(err, tensor->name, node->offset,
                                "its shape and type do not fit its data_offsets");
    return MTL_OK;
}

/* One member of the header. */
static mtl_status mtl__safetensors_tensor(mtl__tensor_span *span, const mtl__json *node,
                                          const unsigned char *data, size_t data_bytes, mtl_error *err)
{
    mtl_safetensor *tensor = span->tensor;
    tensor->name = node->key;
    span->offset = node->offset;
    if (strlen(node->key) != node->key_length)
        return mtl__tensor_fail(err, node->key, node->offset, "its name holds a zero byte");
    if (node->type != MTL__JSON_OBJECT || node->count != 3)
        return mtl__tensor_fail(err, node->key, node->offset,
                                "expected dtype, shape and data_offsets, once each");
    if (mtl__safetensors_type(tensor, mtl__json_get(node, "dtype"), node->offset, err) != MTL_OK)
        return mtl__status(err);
    mtl__safetensors_shape(tensor, mtl__json_get(node, "shape"), node->offset, err);
    mtl__safetensors_extent(span, mtl__json_get(node, "data_offsets"), data_bytes, err);
    tensor->data = data + span->begin;
    return mtl__status(err);
}

/* No two members of an object under one name. */
static mtl_status mtl__json_unique(const mtl__json *node, mtl_arena *arena, mtl_error *err)
{
    mtl__vocabulary vocabulary;
    mtl_arena_mark mark = mtl_arena_save(arena);
    const char **keys = (const char **)mtl__arena_zero(arena, node->count, sizeof *keys, "names", err);
    mtl_error twice;
    size_t i;
    mtl_error_clear(&twice);
    for (i = 0; keys && i < node->count; i++) keys[i] = node->items[i]->key;
    if (keys && mtl__vocabulary_init(&vocabulary, keys, node->count, arena, &twice) != MTL_OK) {
        size_t offset = twice.code == MTL_ERROR_TEXT ? node->items[twice.position]->offset : node->offset;
        mtl__fail(err, twice.code == MTL_ERROR_TEXT ? MTL_ERROR_FORMAT : mtl__status(&twice), twice.name,
                  (long long)offset, "not a safetensors file: name %s, the second time before byte %z",
                      twice.message, offset);
    }
    mtl_arena_release(arena, mark);
    return mtl__status(err);
}

static mtl_status mtl__safetensors_read_metadata(mtl_safetensors *file, const mtl__json *node, mtl_error *err)
{
    size_t i;
    if (node->type != MTL__JSON_OBJECT) return mtl__json_wrong(node, "__metadata__", "an object", err);
    if (mtl__json_unique(node, &file->arena, err) != MTL_OK) return mtl__status(err);
    file->metadata_count = node->count;
    file->metadata = (const char **)mtl__arena_zero(&file->arena, 2 * node->count, sizeof *file->metadata,
                                                    "metadata", err);
    for (i = 0; i < node->count && !mtl__failed(err); i++) {
        const mtl__json *item = node->items[i];
        if (strlen(item->key) != item->key_length)
            return mtl__json_wrong(item, "a key of the metadata", "free of zero bytes", err);
        file->metadata[2 * i] = item->key;
        file->metadata[2 * i + 1] = mtl__json_text(item, item->key, err);
    }
    return mtl__status(err);
}

static int mtl__tensor_span_order(const void *a, const void *b)
{
    const mtl__tensor_span *x = (const mtl__tensor_span *)a, *y = (const mtl__tensor_span *)b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

/* The tensors must fill the data without a gap, an overlap or a rest. Sorts spans. */
static mtl_status mtl__safetensors_cover(mtl__tensor_span *spans, size_t count, size_t data_bytes,
                                         mtl_error *err)
{
    uint64_t end = 0;
    size_t i;
    if (count) qsort(spans, count, sizeof *spans, mtl__tensor_span_order);
    for (i = 0; i < count; i++) {
        if (spans[i].begin != end)
            return mtl__tensor_fail(err, spans[i].tensor->name, spans[i].offset,
                                    spans[i].begin < end ? "its data overlaps that of another tensor"
                                                             : "there is a gap before its data");
        end = spans[i].end;
    }
    if (end != data_bytes)
        return mtl__fail(err, MTL_ERROR_FORMAT, count ? spans[count - 1].tensor->name : "", (long long)end,
                         "the file's data goes on after its last tensor: %z bytes, of which %l are described",
                             data_bytes,
                         (long long)end);
    return MTL_OK;
}

/* The header's members into file->tensors and file->metadata, with all checks. */
static mtl_status mtl__safetensors_members(mtl_safetensors *file, const mtl__json *root,
                                           const unsigned char *data, size_t data_bytes, mtl_error *err)
{
    mtl__tensor_span *spans = (mtl__tensor_span *)mtl__arena_zero(&file->arena, root->count, sizeof *spans,
                                                                  "tensors", err);
    size_t i;
    file->tensors = (mtl_safetensor *)mtl__arena_zero(&file->arena, root->count, sizeof *file->tensors,
                                                      "tensors", err);
    mtl__json_unique(root, &file->arena, err);
    for (i = 0; i < root->count && !mtl__failed(err); i++) {
        if (strcmp(root->items[i]->key, "__metadata__") == 0) {
            mtl__safetensors_read_metadata(file, root->items[i], err);
        } else {
            spans[file->count].tensor = &file->tensors[file->count];
            mtl__safetensors_tensor(&spans[file->count++], root->items[i], data, data_bytes, err);
        }
    }
    return mtl__failed(err) ? mtl__status(err) : mtl__safetensors_cover(spans, file->count, data_bytes, err);
}

MTL_DEF void mtl_safetensors_close(mtl_safetensors *file)
{
    mtl__file_view view;
    if (!file) return;
    memset(&view, 0, sizeof view);
    view.memory = file->file;
    view.mapped_bytes = file->mapped_bytes;
    mtl__file_unmap(&view);
    mtl_arena_destroy(&file->arena);
    memset(file, 0, sizeof *file);
}

MTL_DEF MTL__RARE mtl_status mtl_safetensors_open_memory(mtl_safetensors *file, const void *bytes,
                                                         size_t count, mtl_error *err)
{
    const unsigned char *start = (const unsigned char *)bytes;
    mtl_error own;
    size_t header;
    err = mtl__error_given(err, &own);
    if (!file) return mtl__fail(err, MTL_ERROR_ARGUMENT, "file", -1, "file is NULL");
    memset(file, 0, sizeof *file);
    if (!bytes) return mtl__fail(err, MTL_ERROR_ARGUMENT, "bytes", -1, "bytes is NULL");
    if (mtl__failed(err)) return mtl__status(err);
    mtl_arena_init(&file->arena, NULL, 0, NULL);
    header = mtl__safetensors_header(start, count, err);
    if (header) {
        const mtl__json *root = mtl__json_parse((const char *)start + 8, header, "the safetensors header", 8,
                                                &file->arena, err);
        if (root) mtl__safetensors_members(file, root, start + 8 + header, count - 8 - header, err);
    }
    if (mtl__failed(err)) mtl_safetensors_close(file);
    return mtl__status(err);
}

MTL_DEF mtl_status mtl_safetensors_open(mtl_safetensors *file, const char *path, mtl_error *err)
{
    mtl__file_view view;
    mtl_error own;
    err = mtl__error_given(err, &own);
    if (!file) return mtl__fail(err, MTL_ERROR_ARGUMENT, "file", -1, "file is NULL");
    memset(file, 0, sizeof *file);
    if (mtl__file_map(&view, path, err) != MTL_OK) return mtl__status(err);
    if (mtl_safetensors_open_memory(file, view.bytes, view.count, err) != MTL_OK) {
        mtl__file_unmap(&view);
    } else {
        file->file = view.memory;
        file->mapped_bytes = view.mapped_bytes;
    }
    return mtl__status(err);
}

MTL_DEF const mtl_safetensor *mtl_safetensors_find(const mtl_safetensors *file, const char *name)
{
    size_t i;
    for (i = 0; file && name && i < file->count; i++)
        if (strcmp(file->tensors[i].name, name) == 0) return &file->tensors[i];
    return NULL;
}

MTL_DEF const char *mtl_safetensors_metadata(const mtl_safetensors *file, const char *key)
{
    size_t i;
    for (i = 0; file && key && i < file->metadata_count; i++)
        if (strcmp(file->metadata[2 * i], key) == 0) return file->metadata[2 * i + 1];
    return NULL;
}

/* ---- safetensors: writing ------------------------------------------------------------------------------ */

/* A tensor to be written; data in this machine's byte order, shape[0 .. dims). */
typedef struct mtl__tensor_entry {
    const char *name;
    int type, dims;
    size_t shape[8];
    const void *data;
} mtl__tensor_entry;

static size_t mtl__tensor_entry_count(const mtl__tensor_entry *entry)
{
    size_t count = 1;
    int i;
    for (i = 0; i < entry->dims; i++) count *= entry->shape[i];
    return count;
}

/* "name":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}; returns where its data ends. */
static size_t mtl__safetensors_describe(mtl__text *text, const mtl__tensor_entry *entry, size_t begin)
{
    size_t end = begin + mtl__tensor_entry_count(entry) * mtl__types[entry->type].bytes;
    int i;
    mtl__json_key(text, entry->name);
    mtl__json_open(text, '{');
    mtl__json_key(text, "dtype");
    mtl__json_add_text(text, mtl__types[entry->type].name);
    mtl__json_key(text, "shape");
    mtl__json_open(text, '[');
    for (i = 0; i < entry->dims; i++) mtl__json_add_whole(text, entry->shape[i]);
    mtl__json_close(text, ']');
    mtl__json_key(text, "data_offsets");
    mtl__json_open(text, '[');
    mtl__json_add_whole(text, begin);
    mtl__json_add_whole(text, end);
    mtl__json_close(text, ']');
    mtl__json_close(text, '}');
    return end;
}

static void mtl__safetensors_write_header(mtl__text *text, const mtl__tensor_entry *entries, size_t count,
                                          const char *const *metadata, size_t metadata_count)
{
    size_t i, end = 0;
    mtl__json_open(text, '{');
    if (metadata_count) {
        mtl__json_key(text, "__metadata__");
        mtl__json_open(text, '{');
        for (i = 0; i < metadata_count; i++) {
            mtl__json_key(text, metadata[2 * i]);
            mtl__json_add_text(text, metadata[2 * i + 1]);
        }
        mtl__json_close(text, '}');
    }
    for (i = 0; i < count; i++) end = mtl__safetensors_describe(text, &entries[i], end);
    mtl__json_close(text, '}');
    while (!text->failed && (text->length + 8) % MTL__ALIGNMENT) mtl__text_append(text, " ", 1);
}

static mtl_status mtl__write(const mtl_writer *writer, const void *bytes, size_t count, mtl_error *err)
{
    if (mtl__failed(err)) return mtl__status(err);
    if (count && writer->write(writer->user, bytes, count) != 0)
        return mtl__fail(err, MTL_ERROR_IO, "", -1, "the writer took no more bytes");
    return MTL_OK;
}

static mtl_status mtl__safetensors_write_data(const mtl__tensor_entry *entry, const mtl_writer *writer,
                                              mtl_error *err)
{
    const char *data = (const char *)entry->data;
    size_t bytes = mtl__types[entry->type].bytes, left = mtl__tensor_entry_count(entry);
    char swapped[1024];
    if (!mtl__big_endian()) return mtl__write(writer, data, left * bytes, err);
    while (left && !mtl__failed(err)) {
        size_t part = left < sizeof swapped / bytes ? left : sizeof swapped / bytes;
        mtl__copy_little(swapped, data, part, bytes);
        mtl__write(writer, swapped, part * bytes, err);
        data += part * bytes;
        left -= part;
    }
    return mtl__status(err);
}

/* metadata: key, value, key, value ...: [2 * metadata_count]. Names and keys must be unique. Errors: IO from
   the writer, TEXT for names or metadata that are not UTF-8, MEMORY, LIMIT for a header that no reader would
   take. */
static MTL__RARE mtl_status mtl__safetensors_write(const mtl__tensor_entry *entries, size_t count,
                                                   const char *const *metadata, size_t metadata_count,
                                                   const mtl_writer *writer, mtl_error *err)
{
    mtl__text header;
    unsigned char length[8];
    size_t i;
    if (mtl__failed(err)) return mtl__status(err);
    mtl__text_init(&header, NULL);
    mtl__safetensors_write_header(&header, entries, count, metadata, metadata_count);
    mtl__text_check(&header, "the safetensors header", err);
    if (header.length > MTL__HEADER_MOST)
        mtl__fail(err, MTL_ERROR_LIMIT, "header", (long long)header.length,
                  "the file's header would have %z bytes; readers take %d", header.length,
                      (int)MTL__HEADER_MOST);
    for (i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)header.length >> 8 * i & 255);
    mtl__write(writer, length, sizeof length, err);
    mtl__write(writer, header.data, header.length, err);
    for (i = 0; i < count && !mtl__failed(err); i++) mtl__safetensors_write_data(&entries[i], writer, err);
    mtl__text_free(&header);
    return mtl__status(err);
}


/* ===========================================================================================================
   13 >>desc       field tables, and the one copy, check, write and read that serve every desc
   ===========================================================================================================
   A desc is a struct whose members stand in one table: first those that point to memory, then numbers. What a
   function here does to a desc it does row by row, so a new member costs its row, and a new type of member a
   case in each of the four. JSON members have the rows' names; a mix stands as "from", its sources, and where
   more than that is set, "mix", the rest of it. A kind of the program's own is written as "own", its name,
   and "options", its fields.
   -------------------------------------------------------------------------------------------------------- */

/* ---- the tables ---------------------------------------------------------------------------------------- */

#define MTL__CHOICE_ROW(value, name) { value, name },
static const mtl_choice mtl__choices_MTL_ISA[] = { MTL_ISA_NAMES(MTL__CHOICE_ROW) { 0, NULL } };
static const mtl_choice mtl__choices_MTL_PRECISION[] = { MTL_PRECISION_NAMES(MTL__CHOICE_ROW) { 0, NULL } };
static const mtl_choice mtl__choices_MTL_CELL[] = { MTL_CELL_NAMES(MTL__CHOICE_ROW) { 0, NULL } };
static const mtl_choice mtl__choices_MTL_ACTIVATION[] = { MTL_ACTIVATION_NAMES(MTL__CHOICE_ROW) { 0, NULL } };
static const mtl_choice mtl__choices_MTL_RESET[] = { MTL_RESET_NAMES(MTL__CHOICE_ROW) { 0, NULL } };
static const mtl_choice mtl__choices_MTL_INPUT[] = { MTL_INPUT_NAMES(MTL__CHOICE_ROW) { 0, NULL } };
static const mtl_choice mtl__choices_MTL_COLUMN[] = { MTL_COLUMN_NAMES(MTL__CHOICE_ROW) { 0, NULL } };
static const mtl_choice mtl__choices_MTL_MIX[] = { MTL_MIX_NAMES(MTL__CHOICE_ROW) { 0, NULL } };
static const mtl_choice mtl__choices_MTL_PENALTY[] = { MTL_PENALTY_NAMES(MTL__CHOICE_ROW) { 0, NULL } };
static const mtl_choice mtl__choices_MTL_SHARE[] = { MTL_SHARE_NAMES(MTL__CHOICE_ROW) { 0, NULL } };
static const mtl_choice mtl__choices_MTL_LEVEL[] = { MTL_LEVEL_NAMES(MTL__CHOICE_ROW) { 0, NULL } };
static const mtl_choice mtl__choices_MTL_TASK[] = { MTL_TASK_NAMES(MTL__CHOICE_ROW) { 0, NULL } };
static const mtl_choice mtl__choices_MTL_LOSS[] = { MTL_LOSS_NAMES(MTL__CHOICE_ROW) { 0, NULL } };
static const mtl_choice mtl__choices_MTL_POOL[] = { MTL_POOL_NAMES(MTL__CHOICE_ROW) { 0, NULL } };
static const mtl_choice mtl__choices_MTL_OPTIMIZER[] = { MTL_OPTIMIZER_NAMES(MTL__CHOICE_ROW) { 0, NULL } };
static const mtl_choice mtl__choices_MTL_SCHEDULE[] = { MTL_SCHEDULE_NAMES(MTL__CHOICE_ROW) { 0, NULL } };
static const mtl_choice mtl__choices_MTL_BALANCE[] = { MTL_BALANCE_NAMES(MTL__CHOICE_ROW) { 0, NULL } };
static const mtl_choice mtl__choices_MTL_SURGERY[] = { MTL_SURGERY_NAMES(MTL__CHOICE_ROW) { 0, NULL } };
static const mtl_choice mtl__choices_MTL_SAMPLER[] = { MTL_SAMPLER_NAMES(MTL__CHOICE_ROW) { 0, NULL } };
static const mtl_choice mtl__choices_MTL_CURRICULUM[] = { MTL_CURRICULUM_NAMES(MTL__CHOICE_ROW)
                                                          { 0, NULL } };
/* What a row says beside its numbers: choices, where its count is, what it is made of. */
#define MTL__MORE_MTL_INT(desc, names)    NULL, 0, 0
#define MTL__MORE_MTL_FLOAT(desc, names)  NULL, 0, 0
#define MTL__MORE_MTL_FLAG(desc, names)   NULL, 0, 0
#define MTL__MORE_MTL_SIZE(desc, names)   NULL, 0, 0
#define MTL__MORE_MTL_SEED(desc, names)   NULL, 0, 0
#define MTL__MORE_MTL_INTS(desc, names)   NULL, 0, 0
#define MTL__MORE_MTL_NAME(desc, names)   NULL, 0, 0
#define MTL__MORE_MTL_MIX(desc, names)    NULL, 0, MTL_DESC_MIX
#define MTL__MORE_MTL_CHOICE(desc, names) mtl__choices_##names, 0, 0
#define MTL__MORE_MTL_TEXTS(desc, names)  NULL, offsetof(desc, names), 0
#define MTL__MORE_MTL_REALS(desc, names)  NULL, offsetof(desc, names), 0
#define MTL__MORE_MTL_LIST(desc, names)   NULL, offsetof(desc, names##_count), MTL__OF_##names
#define MTL__MORE_MTL_OWN(desc, names)    NULL, offsetof(desc, options), MTL__OF_##names
#define MTL__OF_input  MTL_DESC_INPUT
#define MTL__OF_column MTL_DESC_COLUMN
#define MTL__OF_task   MTL_DESC_TASK
#define MTL__OF_mix    MTL_DESC_MIX
#define MTL__OF_penalty MTL_DESC_PENALTY

#define MTL__FIELD_ROW(desc, type, name, preset, low, high, names, help) \
    { #name, type, offsetof(desc, name), (double)(preset), (double)(low), (double)(high), help, \
      MTL__MORE_##type(desc, names) },
#define MTL__INPUT_ROW(...) MTL__FIELD_ROW(mtl_input_desc, __VA_ARGS__)
#define MTL__COLUMN_ROW(...) MTL__FIELD_ROW(mtl_column_desc, __VA_ARGS__)
#define MTL__CELL_ROW(...) MTL__FIELD_ROW(mtl_cell_desc, __VA_ARGS__)
#define MTL__TASK_ROW(...) MTL__FIELD_ROW(mtl_task_desc, __VA_ARGS__)
#define MTL__MODEL_ROW(...) MTL__FIELD_ROW(mtl_model_desc, __VA_ARGS__)
#define MTL__TRAINER_ROW(...) MTL__FIELD_ROW(mtl_trainer_desc, __VA_ARGS__)
#define MTL__FIT_ROW(...) MTL__FIELD_ROW(mtl_fit_desc, __VA_ARGS__)
#define MTL__PREDICTOR_ROW(...) MTL__FIELD_ROW(mtl_predictor_desc, __VA_ARGS__)
#define MTL__MIX_ROW(...) MTL__FIELD_ROW(mtl_mix_desc, __VA_ARGS__)
#define MTL__SHARE_ROW(...) MTL__FIELD_ROW(mtl_share_desc, __VA_ARGS__)
#define MTL__PENALTY_ROW(...) MTL__FIELD_ROW(mtl_penalty_desc, __VA_ARGS__)
static const mtl_field mtl__input_fields[] = { MTL_INPUT_FIELDS(MTL__INPUT_ROW) };
static const mtl_field mtl__column_fields[] = { MTL_COLUMN_FIELDS(MTL__COLUMN_ROW) };
static const mtl_field mtl__cell_fields[] = { MTL_CELL_FIELDS(MTL__CELL_ROW) };
static const mtl_field mtl__task_fields[] = { MTL_TASK_FIELDS(MTL__TASK_ROW) };
static const mtl_field mtl__model_fields[] = { MTL_MODEL_FIELDS(MTL__MODEL_ROW) };
static const mtl_field mtl__trainer_fields[] = { MTL_TRAINER_FIELDS(MTL__TRAINER_ROW) };
static const mtl_field mtl__fit_fields[] = { MTL_FIT_FIELDS(MTL__FIT_ROW) };
static const mtl_field mtl__predictor_fields[] = { MTL_PREDICTOR_FIELDS(MTL__PREDICTOR_ROW) };
static const mtl_field mtl__mix_fields[] = { MTL_MIX_FIELDS(MTL__MIX_ROW) };
static const mtl_field mtl__share_fields[] = { MTL_SHARE_FIELDS(MTL__SHARE_ROW) };
static const mtl_field mtl__penalty_fields[] = { MTL_PENALTY_FIELDS(MTL__PENALTY_ROW) };

/* Of each desc: its table and its size. */
typedef struct mtl__desc { const mtl_field *fields; size_t count, bytes; } mtl__desc;
static const mtl__desc mtl__descs[MTL_DESC_COUNT] = {
    { mtl__input_fields, MTL__COUNT(mtl__input_fields), sizeof(mtl_input_desc) },
    { mtl__column_fields, MTL__COUNT(mtl__column_fields), sizeof(mtl_column_desc) },
    { mtl__task_fields, MTL__COUNT(mtl__task_fields), sizeof(mtl_task_desc) },
    { mtl__model_fields, MTL__COUNT(mtl__model_fields), sizeof(mtl_model_desc) },
    { mtl__trainer_fields, MTL__COUNT(mtl__trainer_fields), sizeof(mtl_trainer_desc) },
    { mtl__fit_fields, MTL__COUNT(mtl__fit_fields), sizeof(mtl_fit_desc) },
    { mtl__predictor_fields, MTL__COUNT(mtl__predictor_fields), sizeof(mtl_predictor_desc) },
    { mtl__mix_fields, MTL__COUNT(mtl__mix_fields), sizeof(mtl_mix_desc) },
    { mtl__cell_fields, MTL__COUNT(mtl__cell_fields), sizeof(mtl_cell_desc) },
    { mtl__share_fields, MTL__COUNT(mtl__share_fields), sizeof(mtl_share_desc) },
    { mtl__penalty_fields, MTL__COUNT(mtl__penalty_fields), sizeof(mtl_penalty_desc) }
};

MTL_DEF const mtl_field *mtl_fields(int desc, size_t *count)
{
    const mtl_field *f, *end;
    *count = 0;
    if (desc < 0 || desc >= MTL_DESC_COUNT) return NULL;
    f = mtl__descs[desc].fields;
    end = f + mtl__descs[desc].count;
    while (f < end && f->type >= MTL_NAME) f++;
    *count = (size_t)(end - f);
    return f;
}

/* A member as a number; i: element of an INTS field. */
static MTL__RARE double mtl__field_number(const mtl_field *f, const void *desc, size_t i)
{
    const char *member = (const char *)desc + f->offset;
    switch (f->type) {
    case MTL_FLOAT: { float v; memcpy(&v, member, sizeof v); return (double)v; }
    case MTL_SIZE: { size_t v; memcpy(&v, member, sizeof v); return (double)v; }
    case MTL_SEED: { unsigned long long v; memcpy(&v, member, sizeof v); return (double)v; }
    default: { int v; memcpy(&v, member + i * sizeof v, sizeof v); return (double)v; }
    }
}

static MTL__RARE void mtl__field_store(const mtl_field *f, void *desc, size_t i, double value)
{
    char *member = (char *)desc + f->offset;
    switch (f->type) {
    case MTL_FLOAT: { float v = (float)value; memcpy(member, &v, sizeof v); break; }
    case MTL_SIZE: { size_t v = (size_t)value; memcpy(member, &v, sizeof v); break; }
    case MTL_SEED: { unsigned long long v = (unsigned long long)value; memcpy(member, &v, sizeof v); break; }
    default: { int v = (int)value; memcpy(member + i * sizeof v, &v, sizeof v); break; }
    }
}

/* "what.field" into out, for messages. */
static const char *mtl__field_path(const mtl_field *f, const char *what, char *out, size_t size)
{
    return mtl__print(out, size, what && what[0] ? "%s.%s" : "%s%s", what ? what : "", f->name);
}

/* Names of a choice's values, "rnn, gru, lstm". */
static MTL__RARE void mtl__choice_list(const mtl_choice *choices, char *out, size_t size)
{
    size_t used = 0;
    for (out[0] = '\0'; choices->name; choices++, used = strlen(out))
        mtl__print(out + used, size - used, used ? ", %s" : "%s", choices->name);
}

/* Checks one number against a field's range. */
static MTL__RARE mtl_status mtl__field_check(const mtl_field *f, double value, const char *what,
                                             mtl_error *err)
{
    char path[96], names[160], low[32], high[32];
    const mtl_choice *c;
    double whole = value < 0 ? -floor(-value) : floor(value);
    int wanted_whole = f->type != MTL_FLOAT;
    double least = f->low, most = f->high;
    if (f->type == MTL_FLOAT) {             /* an end is in range as written, and as a float rounds it */
        if ((double)(float)least < least) least = (double)(float)least;
        if ((double)(float)most > most) most = (double)(float)most;
    }
    mtl__field_path(f, what, path, sizeof path);
    if (!mtl__double_is_finite(value) || (wanted_whole && whole != value))
        return mtl__fail(err, MTL_ERROR_FIELD, path, -1, "%s must be a %s", path,
                         wanted_whole ? "whole number" : "finite number");
    if (f->choices) {
        for (c = f->choices; c->name; c++)
            if (c->value == (int)value) return MTL_OK;
        mtl__choice_list(f->choices, names, sizeof names);
        return mtl__fail(err, MTL_ERROR_FIELD, path, (long long)value, "%s is %g, which is none of %s", path,
                         value, names);
    }
    if (f->low < f->high ? value < least || value > most : value < 0) {
        mtl_text_from_number(f->low, low);
        mtl_text_from_number(f->high, high);
        return mtl__fail(err, MTL_ERROR_FIELD, path, (long long)value,
                         f->low < f->high ? "%s is %g; it must lie between %s and %s"
                             : "%s is %g; it must not be negative", path,
                         value, low, high);
    }
    return MTL_OK;
}

/* The value of a text for a field: a choice's name, true or false, or a number. */
static MTL__RARE mtl_status mtl__field_read(const mtl_field *f, const char *text, size_t length,
                                            double *value,
                                  mtl_error *err)
{
    char names[160], shown[64];
    const mtl_choice *c;
    mtl__copy_text(shown, length + 1 < sizeof shown ? length + 1 : sizeof shown, text);
    for (c = f->choices; c && c->name; c++)
        if (strlen(c->name) == length && memcmp(c->name, text, length) == 0)
            { *value = c->value; return MTL_OK; }
    if (f->choices) {
        mtl__choice_list(f->choices, names, sizeof names);
        return mtl__fail(err, MTL_ERROR_FIELD, f->name, -1, "%s cannot be \"%s\"; choose one of %s", f->name,
                         shown, names);
    }
    if (f->type == MTL_FLAG && strcmp(shown, "true") == 0) { *value = 1; return MTL_OK; }
    if (f->type == MTL_FLAG && strcmp(shown, "false") == 0) { *value = 0; return MTL_OK; }
    if (!mtl_text_number(text, length, value))
        return mtl__fail(err, MTL_ERROR_FIELD, f->name, -1, "%s cannot be \"%s\"; it must be a number",
                         f->name, shown);
    if (f->low == f->high && *value > 9007199254740992.0)   /* 2^53: further whole numbers are not all
                                                               doubles */
        return mtl__fail(err, MTL_ERROR_FIELD, f->name, -1, "%s is %s; it must be 9007199254740992 at most",
                         f->name, shown);
    return mtl__field_check(f, *value, NULL, err);
}

MTL_DEF mtl_status mtl_field_set(const mtl_field *field, void *desc, const char *text, mtl_error *err)
{
    mtl_error own;
    double value;
    size_t i;
    err = mtl__error_given(err, &own);
    if (mtl__failed(err)) return mtl__status(err);
    if (field->type != MTL_INTS) {
        if (mtl__field_read(field, text, strlen(text), &value, err)) return mtl__status(err);
        if (value == 0 && field->preset != 0 && field->type == MTL_FLOAT) value = (double)MTL_ZERO;
        else if (value == 0 && field->preset != 0)
            return mtl__fail(err, MTL_ERROR_FIELD, field->name, 0,
                             "%s cannot be 0; leave it out for its default", field->name);
        mtl__field_store(field, desc, 0, value);
        return MTL_OK;
    }
    for (i = 0; i < MTL_MAX_HIDDEN; i++) mtl__field_store(field, desc, i, 0);
    for (i = 0; *text; i++) {
        const char *comma = strchr(text, ',');
        size_t length = comma ? (size_t)(comma - text) : strlen(text);
        if (i == MTL_MAX_HIDDEN)
            return mtl__fail(err, MTL_ERROR_FIELD, field->name, (long long)i, "%s takes %d numbers at most",
                             field->name, MTL_MAX_HIDDEN);
        if (mtl__field_read(field, text, length, &value, err)) return mtl__status(err);
        mtl__field_store(field, desc, i, value);
        text += length + (comma != NULL);
    }
    return MTL_OK;
}

/* A number as a field's text: a choice's name, or digits. out[32] at least. */
static MTL__RARE void mtl__field_text(const mtl_field *f, double value, char *out, size_t size)
{
    const mtl_choice *c;
    for (c = f->choices; c && c->name; c++)
        if (c->value == (int)value) { mtl__copy_text(out, size, c->name); return; }
    if (f->choices) { mtl__copy_text(out, size, "default"); return; }
    if (value == (double)MTL_ZERO) value = 0;
    if (size >= 32) mtl_text_from_number(value, out);
}

MTL_DEF char *mtl_field_get(const mtl_field *field, const void *desc, char *out, size_t size)
{
    size_t i, used = 0;
    char piece[32];
    double value = mtl__field_number(field, desc, 0);
    out[0] = '\0';
    if (field->type != MTL_INTS) {
        mtl__field_text(field, value == 0 ? field->preset : value, piece, sizeof piece);
        mtl__copy_text(out, size, piece);
        return out;
    }
    for (i = 0; i < MTL_MAX_HIDDEN && mtl__field_number(field, desc, i) != 0; i++, used = strlen(out)) {
        mtl__field_text(field, mtl__field_number(field, desc, i), piece, sizeof piece);
        mtl__print(out + used, size - used, i ? ",%s" : "%s", piece);
    }
    return out;
}

/* Checks numbers against their fields' ranges and puts defaults in for zeros. */
static MTL__RARE mtl_status mtl__desc_check_numbers(const mtl_field *f, size_t count, void *members,
                                                    const char *what,
                                          mtl_error *err)
{
    size_t i, k;
    for (i = 0; i < count; i++, f++)
        for (k = 0; k < (f->type == MTL_INTS ? (size_t)MTL_MAX_HIDDEN : 1); k++) {
            double value = mtl__field_number(f, members, k);
            /* -ffast-math may take NaN for 0 */
            if (!mtl__double_is_finite(value)) return mtl__field_check(f, value, what, err);
            if (value == 0 && f->type != MTL_INTS) mtl__field_store(f, members, k, value = f->preset);
            if (value == 0 && f->preset == 0) continue;
            if (mtl__field_check(f, value, what, err)) return mtl__status(err);
        }
    return MTL_OK;
}

MTL_DEF mtl_status mtl_desc_check(int desc, void *members, const char *what, mtl_error *err)
{
    mtl_error own;
    size_t count;
    const mtl_field *fields = mtl_fields(desc, &count);
    err = mtl__error_given(err, &own);
    return mtl__failed(err) ? mtl__status(err) : mtl__desc_check_numbers(fields, count, members, what, err);
}

/* ---- members that point to memory ---------------------------------------------------------------------- */

/* The pointer at an offset of a desc; whatever it points to, its representation is that of a const void *. */
static const void *mtl__desc_pointer(const void *members, size_t offset)
{
    const void *to;
    memcpy(&to, (const char *)members + offset, sizeof to);
    return to;
}

static MTL__RARE void mtl__desc_point(void *members, size_t offset, const void *to)
{
    memcpy((char *)members + offset, &to, sizeof to);
}

/* How many elements a MTL_TEXTS, MTL_REALS or MTL_LIST member has. */
static MTL__RARE size_t mtl__desc_count(const mtl_field *f, const void *members)
{
    size_t count;
    int n;
    if (f->type == MTL_LIST) memcpy(&count, (const char *)members + f->count, sizeof count);
    else {
        memcpy(&n, (const char *)members + f->count, sizeof n);
        count = n > 0 ? (size_t)n : 0;
    }
    return count;
}

/* "what.field[i]", or "field[i]" of the model's own lists, into out. */
static const char *mtl__desc_element(const mtl_field *f, const char *what, size_t i, char *out, size_t size)
{
    return mtl__print(out, size, what[0] ? "%s.%s[%z]" : "%s%s[%z]", what, f->name, i);
}

/* ---- copy and check: a desc's members move into `arena`, and what is wrong with them is told ----------- */

/* Names become parts of tensor names and of mixes: no dots, plus signs, quotes, spaces or control
   characters. */
static MTL__RARE mtl_status mtl__check_name(const char *name, const char *where, mtl_error *err)
{
    size_t i;
    if (mtl__failed(err)) return mtl__status(err);
    if (!name || !name[0]) return mtl__fail(err, MTL_ERROR_FIELD, where, -1, "%s.name is missing", where);
    if (mtl_text_valid(name, strlen(name)) != strlen(name) || strlen(name) > 63)
        return mtl__fail(err, MTL_ERROR_FIELD, where, -1, "%s.name must be UTF-8 of 63 bytes at most", where);
    for (i = 0; name[i]; i++)
        if ((unsigned char)name[i] <= ' ' || strchr(".+\"\\", name[i]))
            return mtl__fail(err, MTL_ERROR_FIELD, where, (long long)i,
                             "%s.name \"%s\" must not hold spaces, dots, plus signs, quotes or backslashes",
                             where, name);
    return MTL_OK;
}

static MTL__RARE void mtl__desc_copy_texts(const mtl_field *f, void *members, mtl_arena *arena,
                                           const char *what,
                                 mtl_error *err)
{
    const char *const *texts = (const char *const *)mtl__desc_pointer(members, f->offset);
    size_t count = mtl__desc_count(f, members), i;
    const char **copy =
        texts ? (const char **)mtl__arena_make(arena, count, sizeof *copy, f->name, err) : NULL;
    for (i = 0; copy && i < count; i++) {
        if (!texts[i])
            mtl__fail(err, MTL_ERROR_ARGUMENT, what, (long long)i, "%s.%s[%z] is NULL; there must be %z",
                      what, f->name, i, count);
        copy[i] = mtl__arena_text(arena, texts[i], err);
    }
    mtl__desc_point(members, f->offset, copy);
}

static MTL__RARE void mtl__desc_copy_bytes(size_t offset, size_t bytes, void *members, mtl_arena *arena,
                                           mtl_error *err)
{
    const void *from = mtl__desc_pointer(members, offset);
    void *copy = from ? mtl__arena_make(arena, bytes, 1, "a desc", err) : NULL;
    if (copy) memcpy(copy, from, bytes);
    mtl__desc_point(members, offset, copy);
}

/* A kind of the program's own: the row stays where it is, its options are copied and checked. */
static MTL__RARE void mtl__desc_copy_own(const mtl_field *f, void *members, mtl_arena *arena,
                                         const char *what,
                               mtl_error *err)
{
    const mtl_kind *own = (const mtl_kind *)mtl__desc_pointer(members, f->offset);
    char path[96];
    size_t i;
    if (!own) return;
    if (own->desc != f->of || !own->name || !own->name[0])
        mtl__fail(err, MTL_ERROR_FIELD, what, -1, "%s.own is a row without a name, or of another table",
                  what);
    if (own->options && !mtl__desc_pointer(members, f->count))
        mtl__fail(err, MTL_ERROR_FIELD, what, -1, "%s.options is NULL; the kind \"%s\" needs them", what,
                  own->name);
    for (i = 0; i < own->field_count; i++)
        if (own->fields[i].type >= MTL_NAME)
            mtl__fail(err, MTL_ERROR_FIELD, what, -1, "%s: the option %s of the kind \"%s\" is no number",
                      what, own->fields[i].name, own->name);
    if (mtl__failed(err)) return;
    mtl__desc_copy_bytes(f->count, own->options, members, arena, err);
    mtl__print(path, sizeof path, "%s.options", what);
    if (own->options && !mtl__failed(err))
        mtl__desc_check_numbers(own->fields, own->field_count,
                                (void *)(uintptr_t)mtl__desc_pointer(members, f->count), path, err);
}

/* Copies what the members of one desc point to, but for lists. */
static MTL__RARE void mtl__desc_copy_member(const mtl_field *f, void *members, mtl_arena *arena,
                                            const char *what,
                                  mtl_error *err)
{
    const mtl_field *part;
    char *inner = (char *)members + f->offset, path[96];
    size_t i;
    switch (f->type) {
    case MTL_NAME:
        if (f->low != 0 && mtl__check_name((const char *)mtl__desc_pointer(members, f->offset), what, err))
            return;
        mtl__desc_point(members, f->offset,
                        mtl__arena_text(arena, (const char *)mtl__desc_pointer(members, f->offset), err));
        break;
    case MTL_TEXTS: mtl__desc_copy_texts(f, members, arena, what, err); break;
    case MTL_REALS:
        mtl__desc_copy_bytes(f->offset, mtl__desc_count(f, members) * sizeof(float), members, arena, err);
        break;
    case MTL_OWN: mtl__desc_copy_own(f, members, arena, what, err); break;
    case MTL_MIX:
        part = mtl__descs[f->of].fields;
        mtl_desc_check(f->of, inner, mtl__field_path(f, what, path, sizeof path), err);
        for (i = 0; i < mtl__descs[f->of].count; i++)
            mtl__desc_copy_member(&part[i], inner, arena, path, err);
        break;
    default: break;
    }
}

/* Numbers first: they say how long lists are. Then names and other memory, then the elements of lists. what:
   how messages call the desc, "tasks[1]". */
static MTL__RARE mtl_status mtl__desc_adopt(int desc, void *members, mtl_arena *arena, const char *what,
                                            mtl_error *err)
{
    const mtl__desc *d = &mtl__descs[desc];
    char where[96];
    size_t i, k;
    if (mtl_desc_check(desc, members, what, err)) return mtl__status(err);
    for (i = 0; i < d->count && !mtl__failed(err); i++) {
        const mtl_field *f = &d->fields[i];
        if (f->type == MTL_LIST) {
            size_t bytes = mtl__descs[f->of].bytes;
            mtl__desc_copy_bytes(f->offset, mtl__desc_count(f, members) * bytes, members, arena, err);
            for (k = 0; k < mtl__desc_count(f, members) && !mtl__failed(err); k++)
                mtl__desc_adopt(f->of, (char *)(uintptr_t)mtl__desc_pointer(members, f->offset) + k * bytes,
                                arena, mtl__desc_element(f, what, k, where, sizeof where), err);
        } else mtl__desc_copy_member(f, members, arena, what, err);
    }
    return mtl__status(err);
}

/* ---- write --------------------------------------------------------------------------------------------- */

static MTL__RARE void mtl__desc_write_number(mtl__text *text, const mtl_field *f, const void *members)
{
    unsigned long long seed;
    char value[64];
    size_t k;
    if (f->choices) {
        mtl__json_add_text(text, mtl_field_get(f, members, value, sizeof value));
    } else if (f->type == MTL_INTS) {
        mtl__json_open(text, '[');
        for (k = 0; k < MTL_MAX_HIDDEN && mtl__field_number(f, members, k) != 0; k++)
            mtl__json_add_number(text, mtl__field_number(f, members, k));
        mtl__json_close(text, ']');
    } else if (f->type == MTL_SEED) {
        memcpy(&seed, (const char *)members + f->offset, sizeof seed);
        mtl__json_add_whole(text, seed);
    } else {
        mtl__json_add_number(text, mtl__field_number(f, members, 0));
    }
}

/* Numbers that are not zero, as JSON members of the object that is open. */
static MTL__RARE void mtl__desc_write_numbers(mtl__text *text, const mtl_field *f, size_t count,
                                              const void *members)
{
    for (; count > 0; count--, f++)
        if (f->type < MTL_NAME && mtl__field_number(f, members, 0) != 0) {
            mtl__json_key(text, f->name);
            mtl__desc_write_number(text, f, members);
        }
}

static MTL__RARE void mtl__desc_write_array(mtl__text *text, const mtl_field *f, const void *members)
{
    const void *array = mtl__desc_pointer(members, f->offset);
    size_t i;
    mtl__json_key(text, f->name);
    mtl__json_open(text, '[');
    for (i = 0; i < mtl__desc_count(f, members); i++)
        if (f->type == MTL_TEXTS) mtl__json_add_text(text, ((const char *const *)array)[i]);
        else mtl__json_add_number(text, (double)((const float *)array)[i]);
    mtl__json_close(text, ']');
}

static MTL__RARE void mtl__desc_write_own(mtl__text *text, const mtl_field *f, const void *members)
{
    const mtl_kind *own = (const mtl_kind *)mtl__desc_pointer(members, f->offset);
    mtl__json_key(text, f->name);
    mtl__json_add_text(text, own->name);
    if (!own->options) return;
    mtl__json_key(text, "options");
    mtl__json_open(text, '{');
    mtl__desc_write_numbers(text, own->fields, own->field_count, mtl__desc_pointer(members, f->count));
    mtl__json_close(text, '}');
}

/* A member of the object that is open, but for numbers and what is itself made of descs. */
static MTL__RARE void mtl__desc_write_member(mtl__text *text, const mtl_field *f, const void *members)
{
    if (!mtl__desc_pointer(members, f->offset)) return;
    if (f->type == MTL_OWN) mtl__desc_write_own(text, f, members);
    if (f->type == MTL_TEXTS || f->type == MTL_REALS) mtl__desc_write_array(text, f, members);
    if (f->type != MTL_NAME) return;
    mtl__json_key(text, f->name);
    mtl__json_add_text(text, (const char *)mtl__desc_pointer(members, f->offset));
}

/* 1 when a member is given and, being a number, not what 0 stands for. */
static MTL__RARE int mtl__desc_is_set(const mtl_field *f, const void *members)
{
    double value;
    if (f->type >= MTL_NAME) return mtl__desc_pointer(members, f->offset) != NULL;
    value = mtl__field_number(f, members, 0);
    return value != 0 && value != (f->type == MTL_FLOAT ? (double)(float)f->preset : f->preset);
}

/* "from", and "mix" where a mix has more than its sources. */
static MTL__RARE void mtl__desc_write_mix(mtl__text *text, const mtl_mix_desc *mix)
{
    const mtl__desc *d = &mtl__descs[MTL_DESC_MIX];
    size_t i = 1;
    mtl__desc_write_member(text, &d->fields[0], mix);
    while (i < d->count && !mtl__desc_is_set(&d->fields[i], mix)) i++;
    if (i == d->count) return;
    mtl__json_key(text, "mix");
    mtl__json_open(text, '{');
    for (i = 1; i < d->count && d->fields[i].type >= MTL_NAME; i++)
        mtl__desc_write_member(text, &d->fields[i], mix);
    mtl__desc_write_numbers(text, d->fields, d->count, mix);
    mtl__json_close(text, '}');
}

/* A desc's members, in the object that is open. */
static MTL__RARE void mtl__desc_write(mtl__text *text, int desc, const void *members)
{
    const mtl__desc *d = &mtl__descs[desc];
    size_t i, k;
    for (i = 0; i < d->count && d->fields[i].type >= MTL_NAME; i++) {
        const mtl_field *f = &d->fields[i];
        const char *list = f->type == MTL_LIST ? (const char *)mtl__desc_pointer(members, f->offset) : NULL;
        if (f->type == MTL_MIX)
            mtl__desc_write_mix(text, (const mtl_mix_desc *)(const void *)((const char *)members
                                                                           + f->offset));
        else if (f->type != MTL_LIST) mtl__desc_write_member(text, f, members);
        if (!list) continue;
        mtl__json_key(text, f->name);
        mtl__json_open(text, '[');
        for (k = 0; k < mtl__desc_count(f, members); k++) {
            mtl__json_open(text, '{');
            mtl__desc_write(text, f->of, list + k * mtl__descs[f->of].bytes);
            mtl__json_close(text, '}');
        }
        mtl__json_close(text, ']');
    }
    mtl__desc_write_numbers(text, d->fields, d->count, members);
}

/* ---- read ---------------------------------------------------------------------------------------------- */

/* What reading needs: where memory comes from, and the program's own kinds. */
typedef struct mtl__desc_reader {
    mtl_arena *arena;
    const mtl_kind *const *kinds;
    size_t kind_count;
    mtl_error *err;
} mtl__desc_reader;

static MTL__RARE void mtl__desc_read_number(const mtl_field *f, const mtl__json *node, void *members,
                                            mtl_error *err)
{
    size_t k;
    double value;
    unsigned long long seed;
    const char *text;
    if (f->choices) {
        text = mtl__json_text(node, f->name, err);
        if (!mtl__failed(err) && !mtl__field_read(f, text, strlen(text), &value, err))
            mtl__field_store(f, members, 0, value);
    } else if (f->type == MTL_INTS) {
        if (mtl__json_count(node) > MTL_MAX_HIDDEN)
            mtl__fail(err, MTL_ERROR_FORMAT, f->name, (long long)node->offset,
                      "the configuration's %s has more than %d numbers", f->name, MTL_MAX_HIDDEN);
        for (k = 0; k < mtl__json_count(node) && !mtl__failed(err); k++)
            mtl__field_store(f, members, k, mtl__json_int(mtl__json_at(node, k), f->name, 0, 2147483647,
                                                          err));
    } else if (f->type == MTL_SEED) {
        seed = mtl__json_whole(node, f->name, ~0ull, err);
        memcpy((char *)members + f->offset, &seed, sizeof seed);
    } else {
        value = mtl__json_number(node, f->name, err);
        if (!mtl__failed(err) && !mtl__field_check(f, value, NULL, err))
            mtl__field_store(f, members, 0, value);
    }
}

/* The numbers that are there; others keep their zero, the default. Unknown members are left for newer
   versions. */
static MTL__RARE void mtl__desc_read_numbers(const mtl_field *f, size_t count, const mtl__json *object,
                                             void *members,
                                   mtl_error *err)
{
    for (; count > 0 && !mtl__failed(err); count--, f++) {
        const mtl__json *node = f->type < MTL_NAME ? mtl__json_get(object, f->name) : NULL;
        if (node) mtl__desc_read_number(f, node, members, err);
    }
}

/* An array of exactly as many texts or numbers as the desc counts. */
static MTL__RARE void mtl__desc_read_array(const mtl__desc_reader *r, const mtl_field *f,
                                           const mtl__json *array,
                                 void *members)
{
    size_t count = mtl__desc_count(f, members), size = f->type == MTL_TEXTS ? sizeof(char *) : sizeof(float),
        i;
    void *to;
    if (array->type != MTL__JSON_ARRAY || mtl__json_count(array) != count) {
        mtl__fail(r->err, MTL_ERROR_FORMAT, f->name, (long long)array->offset,
                  "the configuration's \"%s\" must be %z %s", f->name, count,
                  f->type == MTL_TEXTS ? "texts" : "numbers");
        return;
    }
    to = mtl__arena_zero(r->arena, count, size, f->name, r->err);
    for (i = 0; to && i < count; i++)
        if (f->type == MTL_TEXTS)
            ((const char **)to)[i] = mtl__json_text(mtl__json_at(array, i), f->name, r->err);
        else ((float *)to)[i] = (float)mtl__json_number(mtl__json_at(array, i), f->name, r->err);
    mtl__desc_point(members, f->offset, to);
}

/* A kind of the program's own, by name among those that were handed over. */
static MTL__RARE void mtl__desc_read_own(const mtl__desc_reader *r, const mtl_field *f,
                                         const mtl__json *object,
                               const char *name, void *members)
{
    const mtl_kind *own;
    void *options;
    size_t i = 0;
    if (!name) return;
    while (i < r->kind_count && (r->kinds[i]->desc != f->of || strcmp(r->kinds[i]->name, name) != 0)) i++;
    if (i == r->kind_count) {
        mtl__fail(r->err, MTL_ERROR_UNSUPPORTED, name, -1,
                  "the file has a part of the kind \"%s\", which is a program's own: hand its row over in "
                  "mtl_load_desc.kinds", name);
        return;
    }
    own = r->kinds[i];
    options = own->options ? mtl__arena_zero(r->arena, 1, own->options, name, r->err) : NULL;
    if (options)
        mtl__desc_read_numbers(own->fields, own->field_count, mtl__json_get(object, "options"), options,
                               r->err);
    mtl__desc_point(members, f->offset, own);
    mtl__desc_point(members, f->count, options);
}

/* One member that points to memory, but for lists. */
static MTL__RARE void mtl__desc_read_member(const mtl__desc_reader *r, const mtl_field *f,
                                            const mtl__json *object,
                                  void *members)
{
    const mtl__json *node = mtl__json_get(object, f->name);
    if (!node || mtl__failed(r->err)) return;
    if (f->type == MTL_NAME) mtl__desc_point(members, f->offset, mtl__json_text(node, f->name, r->err));
    else if (f->type == MTL_OWN) mtl__desc_read_own(r, f, object, mtl__json_text(node, f->name, r->err),
                                                    members);
    else mtl__desc_read_array(r, f, node, members);
}

/* "from" stands in the object of whose member the mix is, the rest in its member "mix". */
static MTL__RARE void mtl__desc_read_mix(const mtl__desc_reader *r, const mtl__json *object, void *mix)
{
    const mtl__desc *d = &mtl__descs[MTL_DESC_MIX];
    const mtl__json *rest = mtl__json_get(object, "mix");
    size_t i;
    mtl__desc_read_member(r, &d->fields[0], object, mix);
    for (i = 1; rest && i < d->count && d->fields[i].type >= MTL_NAME; i++)
        mtl__desc_read_member(r, &d->fields[i], rest, mix);
    mtl__desc_read_numbers(d->fields, d->count, rest, mix, r->err);
}

/* A list's array of objects, with zeroed memory for as many descs. */
static MTL__RARE char *mtl__desc_read_list(const mtl__desc_reader *r, const mtl_field *f,
                                           const mtl__json *array,
                                 void *members)
{
    size_t count = mtl__json_count(array);
    char *list;
    if (mtl__failed(r->err) || (!array && f->low == 0)) return NULL;
    if (!array || array->type != MTL__JSON_ARRAY) {
        mtl__fail(r->err, MTL_ERROR_FORMAT, f->name, -1, "the configuration has no list \"%s\"", f->name);
        return NULL;
    }
    list = (char *)mtl__arena_zero(r->arena, count, mtl__descs[f->of].bytes, f->name, r->err);
    mtl__desc_point(members, f->offset, list);
    if (list) memcpy((char *)members + f->count, &count, sizeof count);
    return list;
}

/* A desc, zeroed before, from an object; what it points to lies in the reader's arena. Numbers come first,
   since they say how long lists are. */
static MTL__RARE void mtl__desc_read(const mtl__desc_reader *r, int desc, const mtl__json *object,
                                     void *members)
{
    const mtl__desc *d = &mtl__descs[desc];
    size_t i, k;
    mtl__desc_read_numbers(d->fields, d->count, object, members, r->err);
    for (i = 0; i < d->count && d->fields[i].type >= MTL_NAME && !mtl__failed(r->err); i++) {
        const mtl_field *f = &d->fields[i];
        const mtl__json *array = f->type == MTL_LIST ? mtl__json_get(object, f->name) : NULL;
        char *list = f->type == MTL_LIST ? mtl__desc_read_list(r, f, array, members) : NULL;
        if (f->type == MTL_MIX) mtl__desc_read_mix(r, object, (char *)members + f->offset);
        else if (f->type != MTL_LIST) mtl__desc_read_member(r, f, object, members);
        for (k = 0; list && k < mtl__desc_count(f, members) && !mtl__failed(r->err); k++)
            mtl__desc_read(r, f->of, mtl__json_at(array, k), list + k * mtl__descs[f->of].bytes);
    }
}

/* ===========================================================================================================
   14 >>tape       the run, its records, playing them backward
   ===========================================================================================================
   A layer's forward makes an activation, computes it, and ends in mtl_run_record. With a tape that appends a
   record: a backward function and what it needs. Playing goes from the last record to the first; a record
   whose output no gradient has reached is skipped, so a tape can be played for some of the losses. Backward
   functions never change what forward stored, so it can be played again.

   Order in a backward function: first ask for the gradients that it writes (mtl_run_grad may push memory that
   must live on), then mark the arena, push scratch, compute, release.
   A dry run (a counting arena) walks the same code with no memory behind its pushes: sizes come out exact.
   -------------------------------------------------------------------------------------------------------- */
MTL__INLINE int mtl__dry(const mtl_run *run) { return run->arena->counting; }
MTL__INLINE const mtl__kernels *mtl__run_kernels(const mtl_run *run)
{
    return (const mtl__kernels *)run->kernels;
}

/* 1: this run multiplies in bfloat16. Only training does: a run with a tape and with such packings. */
MTL__INLINE int mtl__run_pairs(const mtl_run *run)
{
    return run->tape && run->packings && run->packings->pairs;
}

/* A matrix as this run's products want it, forward and backward. */
MTL__INLINE const mtl_real *mtl__run_packed(const mtl_run *run, const mtl__matrix *m)
{
    return mtl__run_pairs(run) ? run->packings->block + m->pairs_offset : m->packed;
}
MTL__INLINE const mtl_real *mtl__run_packed_t(const mtl_run *run, const mtl__matrix *m)
{
    return run->packings->block + (run->packings->pairs ? m->pairs_t_offset : m->packed_t_offset);
}

/* Runs jobs on the run's threads; nothing in a dry or failed run. The one test for all passes: elsewhere only
   what looks at values to decide what is done asks whether a run is dry. */
static void mtl__run_for(mtl_run *run, size_t count, mtl_job job, void *context)
{
    if (!mtl__dry(run) && !mtl__failed(run->error)) mtl__parallel_for(run->scheduler, count, job, context);
}

/* ---- passes -----------------------------------------------------------------------------------------------

   A pass works through items (rows, sequences, units of work): its part function does those of one job,
   [begin, end), as the pass's own structure says. Values are touched in passes alone, so the test for a
   dry run stands in mtl__run_for. A pass is cut into jobs by its size alone, so bits do not depend on the
   number of threads. Passes that do not depend on one another are put into one list and run as one loop, so
   that threads wait for each other once and not after every pass. Put the passes with the largest jobs first:
   small ones at the end even out who is ready when.

       mtl__jobs_begin(&jobs, run);                     from here on all that is pushed into the run's arena
                                                        ..
       mtl__jobs_add..(&jobs, ..);                      copies of passes; scratch is pushed here, since jobs
                                                        cannot allocate
       mtl__jobs_run(&jobs);                            .. is given back here
   -------------------------------------------------------------------------------------------------------- */
typedef void (*mtl__part)(const mtl__kernels *kernels, const void *pass, size_t begin, size_t end);

enum {
    MTL__JOBS_PASSES = 16,                  /* passes that a list holds; what is beyond runs in a loop of its
                                               own */
    MTL__LAST_ROWS = 4 * MTL__ROWS,         /* so many rows, the last of a pass, are cut finer */
    MTL__SMALL_JOB = 1 << 20,               /* multiply-adds that no job is cut for: some 20 microseconds */
    MTL__SMALL_VALUES = 1 << 14             /* the same of values that are copied or changed: some 5 */
};

typedef struct mtl__jobs_pass {
    mtl__part part;
    union { mtl__cell_pass largest; unsigned char bytes[sizeof(mtl__cell_pass)]; } of;  /* its structure */
    int follows;                            /* 1: has no jobs; runs after the pass before, on the same rows,
                                               in the same job */
    size_t end;                             /* first job of the list behind those of this pass */
    size_t items, unit, coarse;             /* items; those of one job; jobs of that size, then finer ones */
} mtl__jobs_pass;

typedef struct mtl__jobs {
    mtl_run *run;
    const mtl__kernels *kernels;
    mtl_arena_mark mark;
    size_t passes, jobs;
    mtl__jobs_pass pass[MTL__JOBS_PASSES];
} mtl__jobs;

/* Job number `job` of the list. */
static void mtl__jobs_job(void *context, size_t job)
{
    const mtl__jobs *jobs = (const mtl__jobs *)context;
    const mtl__jobs_pass *pass = jobs->pass, *last = jobs->pass + jobs->passes;
    size_t begin, end;
    while (job >= pass->end) pass++;
    if (pass > jobs->pass) job -= pass[-1].end;
    begin = mtl__at_most(job, pass->coarse) * pass->unit;
    if (job >= pass->coarse) begin += (job - pass->coarse) * MTL__FINE_ROWS;
    end = mtl__at_most(begin + (job < pass->coarse ? pass->unit : (size_t)MTL__FINE_ROWS), pass->items);
    do pass->part(jobs->kernels, pass->of.bytes, begin, end);
    while (++pass < last && pass->follows);
}

static void mtl__jobs_begin(mtl__jobs *jobs, mtl_run *run)
{
    jobs->run = run;
    jobs->kernels = mtl__run_kernels(run);
    jobs->mark = mtl_arena_save(run->arena);
    jobs->passes = jobs->jobs = 0;
}

static void mtl__jobs_flush(mtl__jobs *jobs)
{
    mtl__run_for(jobs->run, jobs->jobs, mtl__jobs_job, jobs);
    jobs->passes = jobs->jobs = 0;
}

/* Runs the list, which then is empty, and gives back what was pushed since mtl__jobs_begin. */
static void mtl__jobs_run(mtl__jobs *jobs)
{
    mtl__jobs_flush(jobs);
    mtl_arena_release(jobs->run->arena, jobs->mark);
}

/* A new pass over `items`, `unit` of them a job. of: its structure of `bytes` bytes, which is copied. */
static mtl__jobs_pass *mtl__jobs_add(mtl__jobs *jobs, mtl__part part, const void *of, size_t bytes,
                                     size_t items, size_t unit)
{
    mtl__jobs_pass *pass;
    if (jobs->passes == MTL__JOBS_PASSES) mtl__jobs_flush(jobs);
    pass = &jobs->pass[jobs->passes++];
    MTL__ASSERT(bytes <= sizeof pass->of);
    pass->part = part;
    memcpy(pass->of.bytes, of, bytes);
    pass->follows = 0;
    pass->items = items;
    pass->unit = unit;
    pass->coarse = (items + unit - 1) / unit;
    pass->end = jobs->jobs += pass->coarse;
    return pass;
}

/* The same over rows. For threads all but the last of them are MTL__ROWS a job, the last ones fewer, unless
   all of them make one small job; a job that reads large weights is not cut finer, since each job reads them
   once. weights: their number, 0: none. */
static mtl__jobs_pass *mtl__jobs_add_rows(mtl__jobs *jobs, mtl__part part, const void *of, size_t bytes,
                                          size_t rows, size_t weights)
{
    const size_t padded = (rows + MTL__ROWS - 1) / MTL__ROWS * MTL__ROWS;
    mtl__jobs_pass *pass = mtl__jobs_add(jobs, part, of, bytes, rows, jobs->run->scheduler || !rows
                                         ? (size_t)MTL__ROWS : padded);
    if (jobs->run->scheduler && weights <= MTL__CELL_LARGE &&
        (pass->coarse > 1 || rows * weights > MTL__SMALL_JOB)) {
        size_t coarse = rows > MTL__LAST_ROWS ? (rows - MTL__LAST_ROWS + MTL__ROWS - 1) / MTL__ROWS : 0;
        size_t fine = (rows - coarse * MTL__ROWS + MTL__FINE_ROWS - 1) / MTL__FINE_ROWS;
        pass->end = jobs->jobs += coarse + fine - pass->coarse;
        pass->coarse = coarse;
    }
    return pass;
}

/* One pass at once, without a list. */
typedef struct mtl__single_pass {
    mtl__part part;
    const mtl__kernels *kernels;
    const void *of;
    size_t items, unit;
} mtl__single_pass;

static void mtl__single_job(void *context, size_t job)
{
    const mtl__single_pass *p = (const mtl__single_pass *)context;
    p->part(p->kernels, p->of, job * p->unit, mtl__at_most((job + 1) * p->unit, p->items));
}

/* `unit` items a job: for threads. One thread takes all at once. */
static void mtl__run_pass(mtl_run *run, mtl__part part, const void *of, size_t items, size_t unit)
{
    mtl__single_pass p;
    p.part = part;
    p.kernels = mtl__run_kernels(run);
    p.of = of;
    p.items = items;
    p.unit = run->scheduler ? unit : items;
    mtl__run_for(run, items > p.unit ? (items + p.unit - 1) / p.unit : items > 0, mtl__single_job, &p);
}

/* Rows so many a job that their `width` values each are worth it. */
static void mtl__run_values(mtl_run *run, mtl__part part, const void *of, size_t rows, size_t width)
{
    mtl__run_pass(run, part, of, rows, run->scheduler ? 1 + MTL__SMALL_VALUES / (width + 1) : rows);
}

/* Rows as mtl__jobs_add_rows cuts them. */
static void mtl__run_rows(mtl_run *run, mtl__part part, const void *of, size_t bytes, size_t rows,
                          size_t weights)
{
    mtl__jobs jobs;
    if (!run->scheduler) mtl__run_pass(run, part, of, rows, rows);
    else {
        mtl__jobs_begin(&jobs, run);
        mtl__jobs_add_rows(&jobs, part, of, bytes, rows, weights);
        mtl__jobs_run(&jobs);
    }
}

/* Rows of `width` values: to[m] (+)= from[rows[m]], rows NULL: from[m]. */
typedef struct mtl__copy {
    const mtl_real *from; size_t from_stride;
    mtl_real *to; size_t to_stride;
    const int *rows;
    size_t width;
    int add;
} mtl__copy;

static void mtl__copy_part(const mtl__kernels *kernels, const void *pass, size_t m, size_t end)
{
    const mtl__copy *p = (const mtl__copy *)pass;
    for (; m < end; m++) {
        const mtl_real *from = p->from + (p->rows ? (size_t)p->rows[m] : m) * p->from_stride;
        if (p->add) kernels->add_scaled(p->width, 1, from, p->to + m * p->to_stride);
        else memcpy(p->to + m * p->to_stride, from, p->width * sizeof *from);
    }
}

static MTL__NOINLINE void mtl__run_copy(mtl_run *run, const mtl_real *from, size_t from_stride,
                                        const int *rows, mtl_real *to, size_t to_stride, size_t count,
                                        size_t width, int add)
{
    mtl__copy p;
    p.from = from;
    p.from_stride = from_stride;
    p.to = to;
    p.to_stride = to_stride;
    p.rows = rows;
    p.width = width;
    p.add = add;
    mtl__run_values(run, mtl__copy_part, &p, count, width);
}

/* ---- the run, its activations and its records ---------------------------------------------------------- */

MTL_DEF mtl_status mtl_run_init(mtl_run *run, mtl_arena *arena, int isa, mtl_error *err)
{
    memset(run, 0, sizeof *run);
    run->kernels = mtl__kernels_choose(isa);
    run->arena = arena;
    run->error = err;
    if (!run->kernels) mtl__fail(err, MTL_ERROR_UNSUPPORTED, "isa", isa, "this machine has no %s kernels",
                                 mtl__isa_name(isa));
    return mtl__status(err);
}

MTL_DEF mtl_status mtl_run_pack(mtl_run *run, const int *lengths, size_t sequences)
{
    run->packing = mtl__packing_create(run->arena, lengths, sequences, run->error);
    return mtl__status(run->error);
}

MTL_DEF void *mtl_run_push(mtl_run *run, size_t bytes)
{
    void *memory = mtl__failed(run->error) ? NULL : mtl_arena_push(run->arena, bytes);
    if (!memory) mtl__fail_memory(run->error, "the run's scratch", bytes);
    return memory;
}

static mtl_real *mtl__run_reals(mtl_run *run, size_t rows, size_t width)
{
    return (mtl_real *)mtl_run_push(run, rows * width * sizeof(mtl_real));
}
static mtl_real *mtl__run_zeros(mtl_run *run, size_t rows, size_t width)
{
    return (mtl_real *)mtl__arena_zero(run->arena, rows * width, sizeof(mtl_real), "the run's scratch",
                                       run->error);
}

MTL_DEF void *mtl_run_make(mtl_run *run, size_t bytes)
{
    return mtl__arena_make(run->arena, 1, bytes, "the run's records", run->error);
}

static mtl_activation *mtl__run_activation(mtl_run *run, const char *name, const mtl_space *space,
                                           size_t rows, size_t width)
{
    mtl_activation *a = (mtl_activation *)mtl_run_make(run, sizeof *a);
    if (!a) return NULL;
    a->name = name ? name : "";
    a->space = space;
    a->rows = rows;
    a->width = width;
    a->stride = mtl__padded(width);
    a->value = mtl__run_reals(run, rows, a->stride);
    if (!a->value) return NULL;
    if (run->tape) {
        a->next = run->tape->activations;
        run->tape->activations = a;
    }
    return a;
}

/* Over all rows of a space; over the rows of x. */
static mtl_activation *mtl__run_over(mtl_run *run, const char *name, const mtl_space *space, size_t width)
{
    return mtl__run_activation(run, name, space, mtl__space_rows(space), width);
}
static mtl_activation *mtl__run_beside(mtl_run *run, const char *name, const mtl_activation *x, size_t width)
{
    return mtl__run_activation(run, name, x->space, x->rows, width);
}

/* Of callers' own layers, which may know nothing of spaces: the only place of this section and the layers
   that looks at the batch's packing. */
MTL_DEF mtl_activation *mtl_run_activation(mtl_run *run, const char *name, size_t rows, size_t width)
{
    const mtl_packing *p = run->packing;
    return mtl__run_activation(run, name, p && rows == p->rows ? &p->space[MTL_LEVEL_STEP]
                               : p && rows == p->sequences ? &p->space[MTL_LEVEL_SEQUENCE] : NULL, rows,
                               width);
}

/* Shows a named activation that holds its values to the observer. */
static void mtl__run_show(mtl_run *run, const mtl_activation *a)
{
    if (a && a->name[0] && run->observer && !mtl__dry(run) && !mtl__failed(run->error))
        run->observer(run->observer_user, run, a);
}

MTL_DEF void mtl_run_record(mtl_run *run, mtl_activation *output, mtl_backward backward, void *data)
{
    mtl_record *r;
    if (mtl__failed(run->error)) return;
    mtl__run_show(run, output);
    if (!run->tape || !backward) return;
    r = (mtl_record *)mtl_run_make(run, sizeof *r);
    if (!r) return;
    r->previous = run->tape->last;
    r->backward = backward;
    r->data = data;
    r->output = output;
    run->tape->last = r;
    run->tape->count++;
}

/* The last record of the tape: what mtl__run_record_after takes. */
static mtl_record *mtl__run_last(const mtl_run *run) { return run->tape ? run->tape->last : NULL; }

/* Records what is to be played back just before `after` (NULL: at the very end) and after all that was
   recorded since. */
static void mtl__run_record_after(mtl_run *run, mtl_record *after, mtl_backward backward, void *data)
{
    mtl_record *last = mtl__run_last(run), *r;
    mtl_run_record(run, NULL, backward, data);
    r = mtl__run_last(run);
    if (r == last || last == after) return;
    run->tape->last = last;
    while (last->previous != after) last = last->previous;
    last->previous = r;
    r->previous = after;
}

MTL_DEF mtl_real *mtl_run_grad(mtl_run *run, mtl_activation *x, int *add)
{
    *add = 0;
    if (x->constant || mtl__failed(run->error)) return NULL;
    if (!x->grad) x->grad = mtl__run_reals(run, x->rows, x->stride);
    *add = x->grad_state == MTL_GRAD_DENSE;
    x->grad_state = MTL_GRAD_DENSE;
    return x->grad;
}

/* A tensor's gradient in the set that the run writes to; NULL: none is wanted. */
static mtl_gradient *mtl__run_gradient(const mtl_run *run, const mtl_tensor *tensor)
{
    mtl_gradients *g = run->gradients;
    return !tensor || !g || (g->writes && !g->writes[tensor->index]) ? NULL : mtl_gradients_get(g, tensor);
}

MTL_DEF mtl_real *mtl_run_tensor_grad(mtl_run *run, const mtl_tensor *tensor, int *add)
{
    mtl_gradient *g = mtl__run_gradient(run, tensor);
    *add = 0;
    if (!g) return NULL;
    if (g->state == MTL_GRAD_ROWS && !mtl__dry(run)) mtl__gradient_densify(run->gradients, tensor);
    *add = g->state == MTL_GRAD_DENSE;
    g->state = MTL_GRAD_DENSE;
    return g->value;
}

MTL_DEF size_t mtl_run_row(const mtl_run *run, const mtl_activation *activation, size_t s, size_t t)
{
    const mtl_space *space = activation->space;
    (void)run;
    if (!space) return activation->rows;
    return (size_t)(space->level == MTL_LEVEL_STEP ? space->packing->packed_row[(size_t)
                    space->packing->starts[s] + t] : space->packing->place[s]);
}

static const mtl_packing *mtl__run_packing(const mtl_run *run, const mtl_activation *x)
{
    return !x ? run->packing : x->space ? x->space->packing : NULL;
}

MTL_DEF size_t mtl_run_rows(const mtl_run *run, const mtl_activation *x, int level)
{
    const mtl_packing *p = mtl__run_packing(run, x);
    return !p ? 0 : level == MTL_LEVEL_STEP ? p->rows : p->sequences;
}

MTL_DEF size_t mtl_run_steps(const mtl_run *run, const mtl_activation *x, size_t s)
{
    const mtl_packing *p = mtl__run_packing(run, x);
    return p && s < p->sequences && !mtl__dry(run) ? (size_t)p->lengths[p->place[s]] : 0;
}

MTL_DEF void mtl_packings_prepare(mtl_packings *packings, const mtl_run *run)
{
    mtl__parameters_pack(packings->set, mtl__run_kernels(run), run->scheduler, packings);
}

MTL_DEF void mtl_tape_mark(mtl_run *run)
{
    if (run->tape) run->tape->mark = run->tape->last;
}

/* Before losses are seeded: no activation has a gradient. */
static void mtl__tape_begin(mtl_run *run)
{
    mtl_activation *a;
    for (a = run->tape->activations; a; a = a->next) a->grad_state = MTL_GRAD_NONE;
}

static void mtl__tape_seed(mtl_run *run, mtl_activation *loss, mtl_real weight)
{
    int add;
    mtl_real *grad = mtl_run_grad(run, loss, &add);
    if (grad) mtl__run_copy(run, &weight, 1, NULL, grad, 1, 1, 1, add);
}

/* Plays a part of the tape with what is seeded, adding to `gradients`. */
static void mtl__tape_play(mtl_run *run, mtl_gradients *gradients, int part)
{
    mtl_gradients *own = run->gradients;
    const mtl_record *r = part == MTL_TAPE_SHARED ? run->tape->mark : run->tape->last;
    const mtl_record *end = part == MTL_TAPE_OWN ? run->tape->mark : NULL;
    run->gradients = gradients;
    for (; r != end && !mtl__failed(run->error); r = r->previous)
        if (!r->output || r->output->grad_state != MTL_GRAD_NONE) r->backward(run, r->data);
    run->gradients = own;
}

MTL_DEF mtl_status mtl_tape_replay(mtl_run *run, mtl_gradients *gradients, int part,
                                   mtl_activation *const *losses, const mtl_real *weights, size_t count,
                                   int accumulate)
{
    uint64_t before;
    size_t i;
    if (mtl__failed(run->error)) return mtl__status(run->error);
    if (!run->tape) return mtl__fail(run->error, MTL_ERROR_ARGUMENT, "tape", -1,
                                     "the run has no tape to play");
    if (gradients && gradients->set->matrices && !run->packings)
        return mtl__fail(run->error, MTL_ERROR_ARGUMENT, "packings", -1, "the run has no packed weights for "
                         "backward products: mtl_packings_create, mtl_packings_prepare");
    before = mtl__arithmetic_set();
    if (!accumulate && gradients && !mtl__dry(run)) mtl__gradients_reset(gradients);
    if (part != MTL_TAPE_SHARED) mtl__tape_begin(run);
    for (i = 0; i < count; i++) mtl__tape_seed(run, losses[i], weights[i]);
    mtl__tape_play(run, gradients, part);
    mtl__arithmetic_restore(before);
    return mtl__status(run->error);
}

MTL_DEF mtl_status mtl_tape_backward(mtl_run *run, mtl_activation *const *losses, const mtl_real *weights,
                                     size_t count, int accumulate)
{
    return mtl_tape_replay(run, run->gradients, MTL_TAPE_ALL, losses, weights, count, accumulate);
}

/* ---- products, cells and their gradients as passes ----------------------------------------------------- */

enum { MTL__WEIGHT_JOBS = 8 };              /* most jobs of a weight product: each packs its part of x for
                                               itself */

static void mtl__product_forward_part(const mtl__kernels *kernels, const void *pass, size_t begin, size_t end)
{
    kernels->product_forward((const mtl__product_forward *)pass, begin, end);
}
static void mtl__product_backward_part(const mtl__kernels *kernels, const void *pass, size_t begin,
                                       size_t end)
{
    kernels->product_backward((const mtl__product_backward *)pass, begin, end);
}
static void mtl__cell_forward_part(const mtl__kernels *kernels, const void *pass, size_t begin, size_t end)
{
    kernels->cell_forward((const mtl__cell_pass *)pass, begin, end - begin);
}
static void mtl__cell_backward_part(const mtl__kernels *kernels, const void *pass, size_t begin, size_t end)
{
    kernels->cell_backward((const mtl__cell_pass *)pass, begin, end - begin);
}

static void mtl__jobs_add_product(mtl__jobs *jobs, const mtl__product_forward *p, size_t rows)
{
    mtl__jobs_add_rows(jobs, mtl__product_forward_part, p, sizeof *p, rows, p->gates * p->units * p->inputs);
}

/* part: mtl__cell_forward_part or _backward_part. Sequences that read large weights together stay in one job,
   as far as every thread has one. */
static void mtl__jobs_add_cell(mtl__jobs *jobs, mtl__part part, const mtl__cell_pass *p, size_t sequences)
{
    const mtl_scheduler *scheduler = jobs->run->scheduler;
    const size_t groups = (sequences + MTL__SEQUENCES - 1) / MTL__SEQUENCES;
    const size_t threads = !scheduler ? 1 : scheduler->threads ? scheduler->threads : groups;
    const size_t share = (groups + threads - 1) / threads * MTL__SEQUENCES;
    mtl__jobs_add(jobs, part, p, sizeof *p, sequences, mtl__at_most(share, mtl__cell_together(p)));
}

typedef struct mtl__weights_pass {
    mtl__product_weights product;
    mtl_real *scratch;                      /* [jobs][scratch_size] */
    size_t scratch_size, unit;              /* units of work of a job */
} mtl__weights_pass;

static void mtl__weights_part(const mtl__kernels *kernels, const void *pass, size_t begin, size_t end)
{
    const mtl__weights_pass *p = (const mtl__weights_pass *)pass;
    kernels->product_weights(&p->product, begin, end, p->scratch + begin / p->unit * p->scratch_size);
}

static void mtl__jobs_add_weights(mtl__jobs *jobs, mtl__product_weights *product)
{
    mtl__weights_pass p;
    size_t units, most;
    product->pairs = mtl__run_pairs(jobs->run);
    units = mtl__weight_units(product);
    most = jobs->run->scheduler ? mtl__at_most(units, MTL__WEIGHT_JOBS) : 1;
    p.unit = (units + most - 1) / most;
    p.product = *product;
    p.scratch_size = mtl__weight_scratch(product);
    p.scratch = mtl__run_reals(jobs->run, (units + p.unit - 1) / p.unit, p.scratch_size);
    mtl__jobs_add(jobs, mtl__weights_part, &p, sizeof p, units, p.unit);
}

/* db = column sums of dz. Both biases of a cell get the same sums. */
typedef struct mtl__sums_pass {
    mtl__product_weights product;
    mtl_real *scratch;                      /* the sums */
    mtl_real *sums[2];                      /* they go to one bias or to two */
    int add[2];
} mtl__sums_pass;

static void mtl__sums_part(const mtl__kernels *kernels, const void *pass, size_t begin, size_t end)
{
    const mtl__sums_pass *p = (const mtl__sums_pass *)pass;
    size_t i, k;
    (void)begin; (void)end;
    kernels->column_sums(&p->product, p->scratch);
    for (i = 0; i < 2 && p->sums[i]; i++)
        for (k = 0; k < p->product.gates * p->product.units; k++)
            p->sums[i][k] = (p->add[i] ? p->sums[i][k] : 0) + p->scratch[k];
}

/* dW and db of the rows of dz that p describes: into the gradients of a weight's rows from first_row on and
   of one or two biases. Each may be NULL; p's dw and accumulate are set here. */
static void mtl__jobs_add_gradients(mtl__jobs *jobs, mtl__product_weights *p, const mtl_tensor *weight,
                                    size_t first_row, const mtl_tensor *bias, const mtl_tensor *bias2)
{
    mtl__sums_pass sums;
    int add, add2;
    mtl_real *dw = weight ? mtl_run_tensor_grad(jobs->run, weight, &add) : NULL, *db, *db2;
    if (dw) {
        p->dw = dw + first_row * p->inputs;
        p->accumulate = add;
        mtl__jobs_add_weights(jobs, p);
    }
    db = bias ? mtl_run_tensor_grad(jobs->run, bias, &add) : NULL;
    db2 = bias2 ? mtl_run_tensor_grad(jobs->run, bias2, &add2) : NULL;
    if (!db && !db2) return;
    sums.product = *p;
    sums.product.accumulate = 0;
    sums.scratch = mtl__run_reals(jobs->run, p->gates, p->units);
    sums.sums[0] = db ? db : db2;
    sums.sums[1] = db ? db2 : NULL;
    sums.add[0] = db ? add : add2;
    sums.add[1] = db2 ? add2 : 0;
    mtl__jobs_add(jobs, mtl__sums_part, &sums, sizeof sums, 1, 1);
}

/* dx of the same dz that w describes: dx (+)= dz . W, with W as the run's packings have it. Two that stand
   one behind the other in a list may go to the same dx. */
static void mtl__jobs_add_input_gradient(mtl__jobs *jobs, const mtl__product_weights *w,
                                         const mtl__matrix *matrix, mtl_real *dx, size_t dx_stride, int add)
{
    mtl__jobs_pass *pass;
    mtl__product_backward p;
    if (!dx) return;
    p.gates = w->gates;
    p.units = w->units;
    p.inputs = w->inputs;
    p.dz = w->dz;
    p.dz_block = w->dz_block;
    p.dz_row = w->dz_row;
    p.exact = w->exact;
    p.packed = mtl__run_packed_t(jobs->run, matrix);
    p.pairs = mtl__run_pairs(jobs->run);
    p.dx = dx;
    p.dx_stride = dx_stride;
    p.accumulate = add;
    pass = mtl__jobs_add_rows(jobs, mtl__product_backward_part, &p, sizeof p, w->rows,
                              w->gates * w->units * w->inputs);
    if (jobs->passes < 2 || pass[-1].part != mtl__product_backward_part) return;
    if (((const mtl__product_backward *)(const void *)pass[-1].of.bytes)->dx != dx) return;
    pass->follows = 1;
    jobs->jobs = pass->end = pass[-1].end;
}

/* ===========================================================================================================
   15 >>layers     embedding, dense, dropout, selection, concatenation, pooling
   ===========================================================================================================
   Each layer: forward mathematics, backward mathematics, then the wrapper that records. X stands beside dX.
   -------------------------------------------------------------------------------------------------------- */

/* ---- inputs: rows of features, standardised ------------------------------------------------------------ */

MTL__INLINE mtl_real mtl__scaled(const mtl_scaling *s, size_t j, mtl_real x)
{
    return !s->set ? x : s->scale[j] != 0 ? (x - s->mean[j]) / s->scale[j] : 0;
}
MTL__INLINE mtl_real mtl__unscaled(const mtl_scaling *s, size_t j, mtl_real x)
{
    return s->set ? x * s->scale[j] + s->mean[j] : x;
}

MTL_DEF mtl_real mtl_scaled(const mtl_scaling *scaling, size_t j, mtl_real x)
{
    return mtl__scaled(scaling, j, x);
}

MTL_DEF mtl_scaling *mtl_scaling_add(mtl_parameters *set, const char *owner, size_t width, mtl_error *err)
{
    mtl_error own;
    mtl_scaling *s;
    mtl_tensor *mean, *scale;
    char name[160];
    err = mtl__error_given(err, &own);
    s = (mtl_scaling *)mtl__arena_make(set->arena, 1, sizeof *s, "a scaling", err);
    if (!s || !width) return s;
    mean = mtl_parameters_add(set, mtl__print(name, sizeof name, "buffers.%s.mean", owner), width, 0,
                              MTL_TENSOR_BUFFER, err);
    scale = mtl_parameters_add(set, mtl__print(name, sizeof name, "buffers.%s.scale", owner), width, 0,
                               MTL_TENSOR_BUFFER, err);
    if (mtl__failed(err)) return NULL;
    mean->init = scale->init = MTL_INIT_CONSTANT;
    scale->initial = 1;
    mean->set = scale->set = &s->set;
    s->width = width;
    s->mean = mean->value;
    s->scale = scale->value;
    return s;
}

typedef struct mtl__features_pass {
    const mtl_real *x;                      /* the caller's, in the caller's order */
    const int *items;                       /* which of them row n is */
    const mtl_scaling *scaling;
    mtl_activation *y;
} mtl__features_pass;

/* y[n][j] = scaled x[items[n]][j] */
static void mtl__features_part(const mtl__kernels *kernels, const void *pass, size_t n, size_t end)
{
    const mtl__features_pass *p = (const mtl__features_pass *)pass;
    size_t j, width = p->y->width;
    (void)kernels;
    for (; n < end; n++)
        for (j = 0; j < width; j++)
            p->y->value[n * p->y->stride + j] =
                mtl__scaled(p->scaling, j, p->x[(size_t)p->items[n] * width + j]);
}

/* x: the caller's [rows][width], checked already. */
static mtl_activation *mtl__features_forward(mtl_run *run, const mtl_space *space, const mtl_real *x,
                                             size_t width, const mtl_scaling *scaling, const char *name)
{
    mtl__features_pass p;
    p.x = x;
    p.items = mtl__space_items(space);
    p.scaling = scaling;
    p.y = mtl__run_over(run, name, space, width);
    if (!p.y) return NULL;
    p.y->constant = 1;
    mtl__run_values(run, mtl__features_part, &p, p.y->rows, width);
    mtl_run_record(run, p.y, NULL, NULL);
    return p.y;
}

/* ---- embedding: y[n] = scale * W[id] ------------------------------------------------------------------- */

typedef struct mtl__embedding_data {
    const mtl_tensor *weight;
    const int *ids;                         /* the caller's, in the caller's order */
    mtl_real scale;
    int padding_zero;
    const int *items;                       /* which of them row n has */
    mtl_activation *y;
} mtl__embedding_data;

/* Rows of a table lie anywhere in it: several are on their way from memory while one is worked on. */
enum { MTL__ROWS_AHEAD = 8 };

static void mtl__prefetch_row(const mtl_real *row, size_t width, int write)
{
    const char *line = (const char *)row, *end = (const char *)(row + width);
    for (; line < end; line += MTL__ALIGNMENT) {        /* the compilers want a constant */
        if (write) MTL__PREFETCH(line, 1);
        else MTL__PREFETCH(line, 0);
    }
}

static const mtl_real *mtl__embedding_row(const mtl__embedding_data *d, size_t n)
{
    return d->weight->value + (size_t)d->ids[d->items[n]] * d->y->width;
}

static void mtl__embedding_gather(const mtl__kernels *kernels, const void *pass, size_t n, size_t end)
{
    const mtl__embedding_data *d = (const mtl__embedding_data *)pass;
    size_t width = d->y->width, j;
    (void)kernels;
    for (j = n; j < end && j < n + MTL__ROWS_AHEAD; j++)
        mtl__prefetch_row(mtl__embedding_row(d, j), width, 0);
    for (; n < end; n++) {
        const mtl_real *row = mtl__embedding_row(d, n);
        mtl_real *y = d->y->value + n * d->y->stride;
        int id = d->ids[d->items[n]];
        if (n + MTL__ROWS_AHEAD < end) mtl__prefetch_row(mtl__embedding_row(d, n + MTL__ROWS_AHEAD), width,
                                                         0);
        if (d->padding_zero && id == 0) memset(y, 0, width * sizeof *y);
        else if (d->scale == 1) memcpy(y, row, width * sizeof *y);
        else for (j = 0; j < width; j++) y[j] = d->scale * row[j];
    }
}

/* Packed rows by the id that each has: rows of one id in rising order, ids in rising order. */
typedef struct mtl__row_groups {
    uint64_t *keys, *other;                 /* [N] id << 32 | row; the sort's second array */
    int *rows;                              /* [N] packed rows by id */
    int *ids;                               /* [distinct] */
    size_t *first;                          /* [distinct + 1] where each id's rows begin */
    size_t count, distinct;
} mtl__row_groups;

/* No groups yet. */
static void mtl__row_groups_push(mtl_run *run, mtl__row_groups *g, size_t rows)
{
    g->count = g->distinct = 0;
    g->keys = (uint64_t *)mtl_run_push(run, rows * sizeof *g->keys);
    g->other = (uint64_t *)mtl_run_push(run, rows * sizeof *g->other);
    g->rows = (int *)mtl_run_push(run, rows * sizeof *g->rows);
    g->ids = (int *)mtl_run_push(run, rows * sizeof *g->ids);
    g->first = (size_t *)mtl_run_push(run, (rows + 1) * sizeof *g->first);
}

/* Sorts by id, a byte of the id at a time, lowest first; each pass keeps the order of equal bytes. */
static void mtl__row_groups_sort(mtl__row_groups *g, uint64_t largest)
{
    size_t next[256], n, byte, sum, held;
    int shift;
    for (shift = 32; shift < 64 && largest >> (shift - 32); shift += 8) {
        uint64_t *from = g->keys;
        memset(next, 0, sizeof next);
        for (n = 0; n < g->count; n++) next[from[n] >> shift & 255]++;
        for (byte = sum = 0; byte < 256; byte++, sum += held) {
            held = next[byte];
            next[byte] = sum;
        }
        for (n = 0; n < g->count; n++) g->other[next[from[n] >> shift & 255]++] = from[n];
        g->keys = g->other;
        g->other = from;
    }
}

/* Groups rows of the ids ids[items[n]]; those below `least` are left out. The work is proportional to the
   rows. */
static void mtl__row_groups_find(mtl__row_groups *g, size_t rows, const int *ids, const int *items, int least)
{
    uint64_t largest = 0;
    size_t n;
    for (n = 0; n < rows; n++) {
        const int id = ids[items[n]];
        if (id < least) continue;
        g->keys[g->count++] = (uint64_t)id << 32 | n;
        if ((uint64_t)id > largest) largest = (uint64_t)id;
    }
    mtl__row_groups_sort(g, largest);
    for (n = 0; n < g->count; n++) {
        g->rows[n] = (int)(g->keys[n] & 0xffffffffu);
        if (n && g->keys[n] >> 32 == g->keys[n - 1] >> 32) continue;
        g->first[g->distinct] = n;
        g->ids[g->distinct++] = (int)(g->keys[n] >> 32);
    }
    g->first[g->distinct] = g->count;
}

/* The gradient of an embedding: which rows of dy each id's gradient is the sum of. */
typedef struct mtl__embedding_order {
    mtl__row_groups groups;
    unsigned char *add;                     /* [distinct] 1: the id's gradient has a value already */
    const mtl__embedding_data *data;
    mtl_run *run;
} mtl__embedding_order;

/* Finds the groups, tells which ids' gradients have a value already, and adds the others to the gradient's
   list of rows. pass: a pointer to the order. The padding word has no gradient. */
static void mtl__embedding_mark(const mtl__kernels *kernels, const void *pass, size_t begin, size_t end)
{
    mtl__embedding_order *o = *(mtl__embedding_order *const *)pass;
    mtl_gradients *g = o->run->gradients;
    const mtl_tensor *t = o->data->weight;
    mtl__row_groups *groups = &o->groups;
    mtl_gradient *gradient = &g->of[t->index];
    int *fresh;
    size_t k, n = 0;
    (void)kernels; (void)begin; (void)end;
    mtl__row_groups_find(groups, o->data->y->rows, o->data->ids, o->data->items,
                         o->data->padding_zero ? 1 : 0);
    fresh = (int *)(void *)groups->other;       /* the sort is done with it */
    if (gradient->state == MTL_GRAD_NONE) gradient->state = MTL_GRAD_ROWS;
    for (k = 0; k < groups->distinct; k++) {
        o->add[k] = gradient->state == MTL_GRAD_DENSE || g->touched[t->index][groups->ids[k]];
        if (!o->add[k]) fresh[n++] = groups->ids[k];
    }
    mtl__gradient_add_rows(g, t, fresh, n);
}

enum { MTL__SCATTER_ROWS = 128 };           /* a job: the ids whose first row is among so many of the sorted
                                               rows; an id's sum is never split */

static void mtl__embedding_scatter(const mtl__kernels *kernels, const void *pass, size_t begin, size_t end)
{
    const mtl__embedding_order *o = *(mtl__embedding_order *const *)pass;
    const mtl__row_groups *g = &o->groups;
    const mtl__embedding_data *d = o->data;
    mtl_real *grad = o->run->gradients->of[d->weight->index].value;
    size_t k = 0, above = g->distinct, width = d->y->width;
    while (k < above) {                     /* the first id of the job, by halving */
        size_t middle = (k + above) / 2;
        if (g->first[middle] < begin) k = middle + 1;
        else above = middle;
    }
    for (; k < g->distinct && g->first[k] < end; k++) {
        if (k + MTL__ROWS_AHEAD < g->distinct) {
            mtl__prefetch_row(grad + (size_t)g->ids[k + MTL__ROWS_AHEAD] * width, width, 1);
            mtl__prefetch_row(d->y->grad + (size_t)g->rows[g->first[k + MTL__ROWS_AHEAD]] * d->y->stride,
                              width, 0);
        }
        kernels->add_rows(width, g->first[k + 1] - g->first[k], g->rows + g->first[k], d->scale, d->y->grad,
                          d->y->stride, o->add[k], grad + (size_t)g->ids[k] * width);
    }
}

static void mtl__embedding_backward(mtl_run *run, void *data)
{
    const mtl__embedding_data *d = (const mtl__embedding_data *)data;
    mtl__embedding_order order, *const o = &order;
    mtl_arena_mark mark = mtl_arena_save(run->arena);
    if (!mtl__run_gradient(run, d->weight)) return;
    order.run = run;
    order.data = d;
    order.add = (unsigned char *)mtl_run_push(run, d->y->rows);
    mtl__row_groups_push(run, &order.groups, d->y->rows);
    mtl__run_pass(run, mtl__embedding_mark, &o, 1, 1);
    mtl__run_pass(run, mtl__embedding_scatter, &o, order.groups.count, MTL__SCATTER_ROWS);
    mtl_arena_release(run->arena, mark);
}

/* ids: the caller's, one for each row of the space, checked already; they must stay until backward has
   run. */
static mtl_activation *mtl__embedding_forward(mtl_run *run, const mtl_space *space, const mtl_tensor *weight,
                                              const int *ids, mtl_real scale, int padding_zero,
                                              const char *name)
{
    static const int none[1] = { 0 };
    mtl_activation *y = mtl__run_over(run, name, space, weight->shape[1]);
    mtl__embedding_data *d = (mtl__embedding_data *)mtl_run_make(run, sizeof *d);
    if (!y || !d) return NULL;
    y->ids = ids ? ids : none;              /* a dry run has no ids, but needs what rows with ids need */
    d->weight = weight;
    d->ids = ids;
    d->scale = scale;
    d->padding_zero = padding_zero;
    d->items = mtl__space_items(space);
    d->y = y;
    if (run->gradients && !mtl__dry(run)) mtl__parameters_fresh(run->gradients->set, weight, ids, y->rows);
    mtl__run_pass(run, mtl__embedding_gather, d, y->rows, MTL__ROWS);
    mtl_run_record(run, y, mtl__embedding_backward, d);
    return y;
}

/* ---- dense: y = x W^T + b ------------------------------------------------------------------------------ */

struct mtl_dense {
    size_t inputs, outputs;
    mtl_tensor *weight, *bias;              /* bias NULL: none */
    mtl__matrix *matrix;
};
typedef struct mtl__dense_data {
    const mtl_dense *dense;
    mtl_activation *x, *y;
} mtl__dense_data;

/* Over tensors that are there: weight [out][in], bias [out] or NULL. */
static mtl_dense *mtl__dense_over(mtl_parameters *set, mtl_tensor *weight, mtl_tensor *bias, mtl_error *err)
{
    mtl_dense *d = (mtl_dense *)mtl__arena_make(set->arena, 1, sizeof *d, "a dense layer", err);
    if (!d) return NULL;
    d->inputs = weight->shape[1];
    d->outputs = weight->shape[0];
    d->weight = weight;
    d->bias = bias;
    d->matrix = mtl__matrix_add(set, weight, 0, 1, d->outputs, NULL, err);
    mtl__matrix_add_bias(set, d->matrix, bias, NULL, 0, 1, 0);
    return d->matrix ? d : NULL;
}

MTL_DEF MTL__RARE mtl_dense *mtl_dense_add(mtl_parameters *set, const char *name, size_t inputs,
                                           size_t outputs, int no_bias, mtl_error *err)
{
    mtl_error own;
    char full[160];
    mtl_tensor *weight, *bias = NULL;
    err = mtl__error_given(err, &own);
    weight = mtl_parameters_add(set, mtl__print(full, sizeof full, "%s.weight", name), outputs, inputs,
                                MTL_TENSOR_WEIGHT, err);
    if (!no_bias)
        bias = mtl_parameters_add(set, mtl__print(full, sizeof full, "%s.bias", name), outputs, 0,
                                  MTL_TENSOR_BIAS, err);
    if (mtl__failed(err)) return NULL;
    weight->initial = (float)(1 / sqrt((double)inputs));
    if (bias) bias->initial = weight->initial;
    return mtl__dense_over(set, weight, bias, err);
}

static void mtl__dense_backward(mtl_run *run, void *data)
{
    const mtl__dense_data *d = (const mtl__dense_data *)data;
    mtl__product_weights w;
    mtl__jobs jobs;
    int add;
    mtl_real *dx = mtl_run_grad(run, d->x, &add);
    memset(&w, 0, sizeof w);
    w.gates = 1;
    w.units = d->dense->outputs;
    w.inputs = d->dense->inputs;
    w.rows = d->y->rows;
    w.dz = d->y->grad;
    w.dz_block = MTL__BLOCK;
    w.dz_row = d->y->stride;
    w.exact = 1;
    w.x = d->x->value;
    w.x_stride = d->x->stride;
    mtl__jobs_begin(&jobs, run);
    mtl__jobs_add_gradients(&jobs, &w, d->dense->weight, 0, d->dense->bias, NULL);
    mtl__jobs_add_input_gradient(&jobs, &w, d->dense->matrix, dx, d->x->stride, add);
    mtl__jobs_run(&jobs);
}

MTL_DEF mtl_activation *mtl_dense_forward(mtl_run *run, const mtl_dense *dense, mtl_activation *x,
                                          const char *name)
{
    mtl_activation *y = x ? mtl__run_beside(run, name, x, dense->outputs) : NULL;
    mtl__dense_data *d = (mtl__dense_data *)mtl_run_make(run, sizeof *d);
    mtl__product_forward p;
    if (!y || !d) return NULL;
    d->dense = dense;
    d->x = x;
    d->y = y;
    memset(&p, 0, sizeof p);
    p.gates = 1;
    p.units = dense->outputs;
    p.inputs = dense->inputs;
    p.x = x->value;
    p.x_stride = x->stride;
    p.packed = mtl__run_packed(run, dense->matrix);
    p.pairs = mtl__run_pairs(run);
    p.bias = dense->matrix->packed_bias;
    p.z = y->value;
    p.z_block = MTL__BLOCK;
    p.z_row = y->stride;
    p.exact = 1;
    mtl__run_rows(run, mtl__product_forward_part, &p, sizeof p, x->rows, p.units * p.inputs);
    mtl_run_record(run, y, mtl__dense_backward, d);
    return y;
}

/* ---- activation functions: y = f(x), dx = dy f'(y) ----------------------------------------------------- */

typedef struct mtl__activate_data {
    int activation;
    mtl_activation *x, *y;
    mtl_real *dx;                           /* while backward runs */
    int add;
} mtl__activate_data;

static void mtl__activate_part(const mtl__kernels *kernels, const void *pass, size_t n, size_t end)
{
    const mtl__activate_data *d = (const mtl__activate_data *)pass;
    for (; n < end; n++)
        kernels->activate(d->activation, d->x->width, d->x->value + n * d->x->stride,
                          d->y->value + n * d->y->stride);
}

enum { MTL__STRIP = 256 };                  /* columns that work on the stack takes at a time */

static void mtl__activate_back_part(const mtl__kernels *kernels, const void *pass, size_t begin, size_t end)
{
    MTL__ALIGN64 mtl_real slope[MTL__STRIP];
    const mtl__activate_data *d = (const mtl__activate_data *)pass;
    size_t first, count, n;
    for (first = 0; first < d->y->width; first += count) {
        count = mtl__at_most(d->y->width - first, MTL__STRIP);
        for (n = begin; n < end; n++) {
            mtl_real *dx = d->dx + n * d->x->stride + first;
            const size_t at = n * d->y->stride + first;
            kernels->activate_backward(d->activation, count, d->y->value + at, d->y->grad + at, d->add
                                       ? slope : dx);
            if (d->add) kernels->add_scaled(count, 1, slope, dx);
        }
    }
}

static void mtl__activate_backward(mtl_run *run, void *data)
{
    mtl__activate_data *d = (mtl__activate_data *)data;
    const mtl_activation *y = d->y;
    d->dx = mtl_run_grad(run, d->x, &d->add);
    if (d->dx) mtl__run_values(run, mtl__activate_back_part, d, y->rows, y->width);
}

static mtl_activation *mtl__activate_forward(mtl_run *run, int activation, mtl_activation *x,
                                             const char *name)
{
    mtl__activate_data *d;
    mtl_activation *y;
    if (!x || activation == MTL_ACTIVATION_NONE) return x;
    y = mtl__run_beside(run, name, x, x->width);
    d = (mtl__activate_data *)mtl_run_make(run, sizeof *d);
    if (!y || !d) return NULL;
    d->activation = activation;
    d->x = x;
    d->y = y;
    mtl__run_values(run, mtl__activate_part, d, x->rows, x->width);
    mtl_run_record(run, y, mtl__activate_backward, d);
    return y;
}

/* ---- dropout (Srivastava et al. 2014), inverted; per sequence: one mask for all steps (Gal & Ghahramani
   2016) ------------------------------------------------------------------------------------------------- */

typedef struct mtl__dropout_data {
    mtl__dropout forward;
    mtl_activation *x, *y;
} mtl__dropout_data;

static void mtl__dropout_part(const mtl__kernels *kernels, const void *pass, size_t begin, size_t end)
{
    kernels->dropout((const mtl__dropout *)pass, begin, end);
}

static void mtl__dropout_backward(mtl_run *run, void *data)
{
    const mtl__dropout_data *d = (const mtl__dropout_data *)data;
    mtl__dropout backward = d->forward;
    backward.x = d->y->grad;
    backward.x_stride = d->y->stride;
    backward.y = mtl_run_grad(run, d->x, &backward.accumulate);
    backward.y_stride = d->x->stride;
    if (backward.y) mtl__run_rows(run, mtl__dropout_part, &backward, sizeof backward, d->y->rows, 0);
}

static unsigned long long *mtl__run_stream(mtl_run *run)
{
    return run->streams ? &run->streams[run->component] : &run->stream;
}

/* x itself when nothing is to be dropped. key: [rows] what a row's mask depends on; NULL: its number. */
static mtl_activation *mtl__dropout_layer(mtl_run *run, mtl_real rate, const int *key, mtl_activation *x,
                                          const char *name)
{
    mtl__dropout_data *d;
    mtl_activation *y;
    if (!x || !run->training || rate <= 0) return x;
    y = mtl__run_beside(run, name, x, x->width);
    d = (mtl__dropout_data *)mtl_run_make(run, sizeof *d);
    if (!y || !d) return NULL;
    y->constant = x->constant;
    d->x = x;
    d->y = y;
    d->forward.rows = x->rows;
    d->forward.width = x->width;
    d->forward.x = x->value;
    d->forward.x_stride = x->stride;
    d->forward.y = y->value;
    d->forward.y_stride = y->stride;
    d->forward.key = key;
    d->forward.seed = run->seed;
    d->forward.stream = run->step << 16 | (++*mtl__run_stream(run) & 0xffff);
    d->forward.rate = rate;
    mtl__run_rows(run, mtl__dropout_part, &d->forward, sizeof d->forward, y->rows, 0);
    mtl_run_record(run, y, mtl__dropout_backward, d);
    return y;
}

/* ---- moving rows: y[m][to + j] = x[items[m]][from + j] ------------------------------------------------- */

typedef struct mtl__move_data {
    mtl_activation *x, *y;
    const int *items;                       /* [y rows] NULL: row m itself */
    size_t from, to, width;
    mtl_real *dx;                           /* while backward runs */
    int add;
} mtl__move_data;

/* dx[items[m]][from + j] += dy[m][to + j]; rows of x that no item names get zero. Jobs take columns of x,
   since items may name a row more than once. */
static void mtl__move_back_part(const mtl__kernels *kernels, const void *pass, size_t begin, size_t end)
{
    const mtl__move_data *d = (const mtl__move_data *)pass;
    const size_t stride = d->x->stride, last = mtl__at_most(end, d->from + d->width);
    size_t m;
    for (m = 0; !d->add && m < d->x->rows; m++)
        memset(d->dx + m * stride + begin, 0, (end - begin) * sizeof *d->dx);
    if (begin < d->from) begin = d->from;
    for (m = 0; begin < last && m < d->y->rows; m++)
        kernels->add_scaled(last - begin, 1, d->y->grad + m * d->y->stride + d->to + begin - d->from,
                            d->dx + (d->items ? (size_t)d->items[m] : m) * stride + begin);
}

static void mtl__move_backward(mtl_run *run, void *data)
{
    mtl__move_data *d = (mtl__move_data *)data;
    size_t unit = 1 + MTL__SMALL_VALUES / (d->x->rows + d->y->rows);
    d->dx = mtl_run_grad(run, d->x, &d->add);
    unit = (unit + MTL__BLOCK - 1) / MTL__BLOCK * MTL__BLOCK;       /* whole cache lines */
    if (d->dx) mtl__run_pass(run, mtl__move_back_part, d, d->x->width, unit);
}

/* Copies columns into a part of y and records it. y has no name yet: mtl__moved gives it one when all its
   parts are there. */
static void mtl__move_forward(mtl_run *run, mtl_activation *x, size_t from, const int *items,
                              mtl_activation *y, size_t to, size_t width)
{
    mtl__move_data *d = (mtl__move_data *)mtl_run_make(run, sizeof *d);
    if (!d) return;
    d->x = x;
    d->y = y;
    d->items = items;
    d->from = from;
    d->to = to;
    d->width = width;
    mtl__run_copy(run, x->value + from, x->stride, items, y->value + to, y->stride, y->rows, width, 0);
    mtl_run_record(run, y, mtl__move_backward, d);
}

static mtl_activation *mtl__moved(mtl_run *run, mtl_activation *y, const char *name)
{
    if (!y || mtl__failed(run->error)) return NULL;
    y->name = name;
    mtl__run_show(run, y);
    return y;
}

/* Rows `items` [rows] of x, e.g. the labelled ones (space NULL), or for each row of another space the one
   that belongs to it. items must stay until backward has run. */
static mtl_activation *mtl__select_forward(mtl_run *run, const mtl_space *space, mtl_activation *x,
                                           const int *items, size_t rows, const char *name)
{
    mtl_activation *y = x ? mtl__run_activation(run, NULL, space, rows, x->width) : NULL;
    if (y) mtl__move_forward(run, x, 0, items, y, 0, x->width);
    return mtl__moved(run, y, name);
}

/* Activations of equal rows side by side; one alone is returned as it is. */
static mtl_activation *mtl__concat_forward(mtl_run *run, mtl_activation *const *parts, size_t count,
                                           const char *name)
{
    size_t i, width = 0;
    mtl_activation *y;
    for (i = 0; i < count; i++) {
        if (!parts[i]) return NULL;
        width += parts[i]->width;
    }
    if (count == 1) return parts[0];
    y = mtl__run_beside(run, NULL, parts[0], width);
    for (i = 0, width = 0; y && i < count; width += parts[i++]->width)
        mtl__move_forward(run, parts[i], 0, NULL, y, width, parts[i]->width);
    return mtl__moved(run, y, name);
}

/* ---- mixing rows ---------------------------------------------------------------------------------------

   Of a row's values, dot products and the like are few beside the products of what has made the rows: plain
   loops do. */

/* sum_j x_j y_j, in an order that no instruction set changes */
static mtl_real mtl__row_dot(const mtl_real *x, const mtl_real *y, size_t width)
{
    mtl_real sum[4] = { 0, 0, 0, 0 };
    size_t j;
    for (j = 0; j + 4 <= width; j += 4) {
        sum[0] += x[j] * y[j];
        sum[1] += x[j + 1] * y[j + 1];
        sum[2] += x[j + 2] * y[j + 2];
        sum[3] += x[j + 3] * y[j + 3];
    }
    for (; j < width; j++) sum[0] += x[j] * y[j];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

MTL__INLINE mtl_real *mtl__row(const mtl_activation *a, size_t n) { return a->value + n * a->stride; }

/* A gradient's row before it is added to. */
static mtl_real *mtl__row_open(mtl_real *grad, size_t stride, size_t width, size_t n, int add)
{
    mtl_real *row = grad ? grad + n * stride : NULL;
    if (row && !add) memset(row, 0, width * sizeof *row);
    return row;
}

/* y[n] = sum_i w[n][i] x_i[n]. weights: NULL: ones; one row: the same for all n; rows: [N] which of its rows
   row n has, NULL: its own. */
typedef struct mtl__blend_source { mtl_activation *x; mtl_real *dx; int add; } mtl__blend_source;
typedef struct mtl__blend {
    size_t count;
    mtl__blend_source *sources;             /* [count] dx and add while backward runs */
    mtl_activation *weights, *y;
    const int *rows;
    mtl_real *dots, *dw;                    /* while backward runs: [N][count] dy[n] . x_i[n]; of the
                                               weights */
    int add;
} mtl__blend;

static size_t mtl__blend_row(const mtl__blend *d, size_t n)
{
    return d->weights->rows == 1 ? 0 : d->rows ? (size_t)d->rows[n] : n;
}

static mtl_real mtl__blend_weight(const mtl__blend *d, size_t n, size_t i)
{
    return d->weights ? mtl__row(d->weights, mtl__blend_row(d, n))[i] : 1;
}

static void mtl__blend_part(const mtl__kernels *kernels, const void *pass, size_t n, size_t end)
{
    const mtl__blend *d = (const mtl__blend *)pass;
    size_t i;
    for (; n < end; n++) {
        mtl_real *y = mtl__row_open(d->y->value, d->y->stride, d->y->width, n, 0);
        for (i = 0; i < d->count; i++)
            kernels->add_scaled(d->y->width, mtl__blend_weight(d, n, i), mtl__row(d->sources[i].x, n), y);
    }
}

/* dx_i[n] += w[n][i] dy[n] */
static void mtl__blend_back_part(const mtl__kernels *kernels, const void *pass, size_t n, size_t end)
{
    const mtl__blend *d = (const mtl__blend *)pass;
    const size_t width = d->y->width;
    size_t i;
    for (; n < end; n++)
        for (i = 0; i < d->count; i++) {
            const mtl__blend_source *s = &d->sources[i];
            const mtl_real *dy = d->y->grad + n * d->y->stride;
            mtl_real *dx = mtl__row_open(s->dx, s->x->stride, width, n, s->add);
            if (dx) kernels->add_scaled(width, mtl__blend_weight(d, n, i), dy, dx);
            if (d->dw) d->dots[n * d->count + i] = mtl__row_dot(dy, mtl__row(s->x, n), width);
        }
}

/* dw[row of n][i] += dy[n] . x_i[n]: rows in turn, since several may share one of the weights'. */
static void mtl__blend_weights_part(const mtl__kernels *kernels, const void *pass, size_t n, size_t end)
{
    const mtl__blend *d = (const mtl__blend *)pass;
    const size_t stride = d->weights->stride;
    (void)end;
    for (n = 0; n < d->weights->rows; n++) mtl__row_open(d->dw, stride, d->count, n, d->add);
    for (n = 0; n < d->y->rows; n++)
        kernels->add_scaled(d->count, 1, d->dots + n * d->count, d->dw + mtl__blend_row(d, n) * stride);
}

static void mtl__blend_backward(mtl_run *run, void *data)
{
    mtl__blend *d = (mtl__blend *)data;
    mtl_arena_mark mark;
    size_t i;
    for (i = 0; i < d->count; i++) {        /* a source that stands twice is assigned once */
        mtl__blend_source *s = &d->sources[i];
        s->dx = mtl_run_grad(run, s->x, &s->add);
    }
    d->dw = d->weights ? mtl_run_grad(run, d->weights, &d->add) : NULL;
    mark = mtl_arena_save(run->arena);
    d->dots = d->dw ? mtl__run_reals(run, d->y->rows, d->count) : NULL;
    mtl__run_values(run, mtl__blend_back_part, d, d->y->rows, d->count * d->y->width);
    if (d->dw) mtl__run_values(run, mtl__blend_weights_part, d, 1, 0);
    mtl_arena_release(run->arena, mark);
}

static mtl_activation *mtl__blend_forward(mtl_run *run, mtl_activation *const *sources, size_t count,
                                          mtl_activation *weights, const int *rows)
{
    mtl__blend *d = (mtl__blend *)mtl_run_make(run, sizeof *d);
    size_t i;
    if (!d || !sources[0]) return NULL;
    d->sources = (mtl__blend_source *)mtl_run_make(run, count * sizeof *d->sources);
    d->y = mtl__run_beside(run, NULL, sources[0], sources[0]->width);
    if (mtl__failed(run->error)) return NULL;
    d->count = count;
    d->weights = weights;
    d->rows = rows;
    for (i = 0; i < count; i++) d->sources[i].x = sources[i];
    mtl__run_values(run, mtl__blend_part, d, d->y->rows, count * d->y->width);
    mtl_run_record(run, d->y, mtl__blend_backward, d);
    return d->y;
}

/* y = p + g * (s - p), element by element. */
typedef struct mtl__gate {
    mtl_activation *g, *s, *p, *y;
    mtl_real *dg, *ds, *dp;                 /* while backward runs */
    int add_g, add_s, add_p;
} mtl__gate;

static void mtl__gate_part(const mtl__kernels *kernels, const void *pass, size_t n, size_t end)
{
    const mtl__gate *d = (const mtl__gate *)pass;
    size_t j;
    (void)kernels;
    for (; n < end; n++) {
        const mtl_real *g = mtl__row(d->g, n), *s = mtl__row(d->s, n), *p = mtl__row(d->p, n);
        mtl_real *y = mtl__row(d->y, n);
        for (j = 0; j < d->y->width; j++) y[j] = p[j] + g[j] * (s[j] - p[j]);
    }
}

/* dg += dy (s - p),  ds += dy g,  dp += dy (1 - g) */
static void mtl__gate_back_part(const mtl__kernels *kernels, const void *pass, size_t n, size_t end)
{
    const mtl__gate *d = (const mtl__gate *)pass;
    const size_t width = d->y->width;
    size_t j;
    (void)kernels;
    for (; n < end; n++) {
        const mtl_real *dy = d->y->grad + n * d->y->stride;
        const mtl_real *g = mtl__row(d->g, n), *s = mtl__row(d->s, n), *p = mtl__row(d->p, n);
        mtl_real *dg = mtl__row_open(d->dg, d->g->stride, width, n, d->add_g);
        mtl_real *ds = mtl__row_open(d->ds, d->s->stride, width, n, d->add_s);
        mtl_real *dp = mtl__row_open(d->dp, d->p->stride, width, n, d->add_p);
        for (j = 0; dg && j < width; j++) dg[j] += dy[j] * (s[j] - p[j]);
        for (j = 0; ds && j < width; j++) ds[j] += dy[j] * g[j];
        for (j = 0; dp && j < width; j++) dp[j] += dy[j] - dy[j] * g[j];
    }
}

static void mtl__gate_backward(mtl_run *run, void *data)
{
    mtl__gate *d = (mtl__gate *)data;
    d->dg = mtl_run_grad(run, d->g, &d->add_g);
    d->ds = mtl_run_grad(run, d->s, &d->add_s);
    d->dp = mtl_run_grad(run, d->p, &d->add_p);
    mtl__run_values(run, mtl__gate_back_part, d, d->y->rows, 4 * d->y->width);
}

static mtl_activation *mtl__gate_forward(mtl_run *run, mtl_activation *g, mtl_activation *s,
                                         mtl_activation *p)
{
    mtl__gate *d = (mtl__gate *)mtl_run_make(run, sizeof *d);
    if (!g || !d) return NULL;
    d->y = mtl__run_beside(run, NULL, s, s->width);
    if (!d->y) return NULL;
    d->g = g;
    d->s = s;
    d->p = p;
    mtl__run_values(run, mtl__gate_part, d, d->y->rows, d->y->width);
    mtl_run_record(run, d->y, mtl__gate_backward, d);
    return d->y;
}

/* A vector of parameters as one row. */
typedef struct mtl__vector { const mtl_tensor *tensor; mtl_activation *y; } mtl__vector;

static void mtl__vector_backward(mtl_run *run, void *data)
{
    const mtl__vector *d = (const mtl__vector *)data;
    int add;
    mtl_real *grad = mtl_run_tensor_grad(run, d->tensor, &add);
    if (grad) mtl__run_copy(run, d->y->grad, 0, NULL, grad, 0, 1, d->y->width, add);
}

static mtl_activation *mtl__vector_forward(mtl_run *run, const mtl_tensor *tensor)
{
    mtl__vector *d = (mtl__vector *)mtl_run_make(run, sizeof *d);
    mtl_activation *y = mtl__run_activation(run, NULL, NULL, 1, tensor->count);
    if (!d || !y) return NULL;
    d->tensor = tensor;
    d->y = y;
    y->constant = tensor->frozen;
    mtl__run_copy(run, tensor->value, 0, NULL, y->value, 0, 1, tensor->count, 0);
    mtl_run_record(run, y, mtl__vector_backward, d);
    return y;
}

/* What a layer of one input keeps whose rows do not depend on one another. */
typedef struct mtl__rowwise {
    mtl_activation *x, *y;
    mtl__part back;                         /* dx of some rows */
    mtl_real factor, *dx;                   /* dx and add while backward runs */
    int add;
} mtl__rowwise;

static void mtl__rowwise_backward(mtl_run *run, void *data)
{
    mtl__rowwise *d = (mtl__rowwise *)data;
    d->dx = mtl_run_grad(run, d->x, &d->add);
    if (d->dx) mtl__run_values(run, d->back, d, d->y->rows, d->y->width);
}

/* Reversal: y = x, dx = -factor dy */
static void mtl__reversal_back_part(const mtl__kernels *kernels, const void *pass, size_t n, size_t end)
{
    const mtl__rowwise *d = (const mtl__rowwise *)pass;
    for (; n < end; n++)
        kernels->add_scaled(d->y->width, -d->factor, d->y->grad + n * d->y->stride,
                            mtl__row_open(d->dx, d->x->stride, d->y->width, n, d->add));
}

/* The same values under a gradient of their own; `constant`: under none. */
static mtl_activation *mtl__view(mtl_run *run, const mtl_activation *x, int constant)
{
    mtl_activation *y = (mtl_activation *)mtl_run_make(run, sizeof *y);
    if (!y) return NULL;
    *y = *x;
    y->constant = x->constant || constant;
    y->grad = NULL;
    y->name = "";
    if (!run->tape) return y;
    y->next = run->tape->activations;
    run->tape->activations = y;
    return y;
}

static mtl_activation *mtl__reversal_forward(mtl_run *run, mtl_real factor, mtl_activation *x)
{
    mtl__rowwise *d = (mtl__rowwise *)mtl_run_make(run, sizeof *d);
    if (!x || !d) return NULL;
    d->x = x;
    d->back = mtl__reversal_back_part;
    d->factor = factor;
    d->y = mtl__view(run, x, 0);
    if (d->y) mtl_run_record(run, d->y, mtl__rowwise_backward, d);
    return d->y;
}

/* ---- pooling: rows of a sequence become one ------------------------------------------------------------ */

/* Each direction's last state: forward columns of a sequence's last step, reverse columns of its first
   (packed row b). */
static mtl_activation *mtl__pool_last(mtl_run *run, mtl_activation *x, const mtl_segment *segments,
                                      size_t count, const char *name)
{
    const mtl_packing *p = x->space->packing;
    mtl_activation *y = mtl__run_over(run, NULL, &p->space[MTL_LEVEL_SEQUENCE], x->width);
    size_t i;
    if (!y) return NULL;
    for (i = 0; i < count; i++)
        mtl__move_forward(run, x, segments[i].begin, segments[i].reverse ? NULL : p->last, y,
                          segments[i].begin, segments[i].width);
    return mtl__moved(run, y, name);
}

typedef struct mtl__pool_data {
    const mtl_packing *packing;
    int max;                                /* else mean */
    mtl_activation *x, *y;
    mtl_real *dx;                           /* while backward runs */
    int add;
} mtl__pool_data;

/* mean: y[b] = sum_t x[t][b] / length; max: the largest over t. The rows of a sequence are
   step_offset[t] + b. */
static void mtl__pool_values(const mtl__kernels *kernels, const void *pass, size_t b, size_t end)
{
    const mtl__pool_data *d = (const mtl__pool_data *)pass;
    const mtl_packing *p = d->packing;
    size_t t, width = d->y->width;
    for (; b < end; b++) {
        mtl_real *y = d->y->value + b * d->y->stride, share = 1 / (mtl_real)p->lengths[b];
        memcpy(y, d->x->value + b * d->x->stride, width * sizeof *y);
        if (!d->max) kernels->scale(width, share, y);
        for (t = 1; t < (size_t)p->lengths[b]; t++) {
            const mtl_real *x = d->x->value + (p->step_offset[t] + b) * d->x->stride;
            if (d->max) kernels->maximum(width, x, y);
            else kernels->add_scaled(width, share, x, y);
        }
    }
}

/* dx of one sequence's columns [first, first + n), n <= MTL__STRIP. mean: dx[t][b] = dy[b] / length; max: dy
   goes to the first of the largest. */
static void mtl__pool_strip(const mtl__kernels *kernels, const mtl__pool_data *d, size_t b, size_t first,
                            size_t n)
{
    MTL__ALIGN64 mtl_real left[MTL__STRIP];
    const mtl_packing *p = d->packing;
    size_t t;
    memcpy(left, d->y->grad + b * d->y->stride + first, n * sizeof *left);
    if (!d->max) kernels->scale(n, 1 / (mtl_real)p->lengths[b], left);
    for (t = 0; t < (size_t)p->lengths[b]; t++) {
        size_t at = (p->step_offset[t] + b) * d->x->stride + first;
        if (d->max)
            kernels->maximum_backward(n, d->x->value + at, d->y->value + b * d->y->stride + first, left,
                                      d->add, d->dx + at);
        else if (d->add) kernels->add_scaled(n, 1, left, d->dx + at);
        else memcpy(d->dx + at, left, n * sizeof *left);
    }
}

static void mtl__pool_gradients(const mtl__kernels *kernels, const void *pass, size_t b, size_t end)
{
    const mtl__pool_data *d = (const mtl__pool_data *)pass;
    size_t first, width = d->y->width;
    for (; b < end; b++)
        for (first = 0; first < width; first += MTL__STRIP)
            mtl__pool_strip(kernels, d, b, first, mtl__at_most(width - first, MTL__STRIP));
}

static void mtl__pool_backward(mtl_run *run, void *data)
{
    mtl__pool_data *d = (mtl__pool_data *)data;
    d->dx = mtl_run_grad(run, d->x, &d->add);
    if (!d->dx) return;
    mtl__run_pass(run, mtl__pool_gradients, d, d->y->rows, MTL__SEQUENCES);
}

/* x [N][width], rows that are steps, to [B][width], their sequences. segments: for MTL_POOL_LAST. */
static mtl_activation *mtl__pool_forward(mtl_run *run, int pool, mtl_activation *x,
                                         const mtl_segment *segments, size_t count, const char *name)
{
    mtl__pool_data *d;
    if (!x) return NULL;
    MTL__ASSERT(x->space && x->space->level == MTL_LEVEL_STEP);
    if (pool == MTL_POOL_LAST) return mtl__pool_last(run, x, segments, count, name);
    d = (mtl__pool_data *)mtl_run_make(run, sizeof *d);
    if (!d) return NULL;
    d->packing = x->space->packing;
    d->x = x;
    d->y = mtl__run_over(run, name, &d->packing->space[MTL_LEVEL_SEQUENCE], x->width);
    d->max = pool == MTL_POOL_MAX;
    if (mtl__failed(run->error)) return NULL;
    mtl__run_pass(run, mtl__pool_values, d, d->y->rows, MTL__SEQUENCES);
    mtl_run_record(run, d->y, mtl__pool_backward, d);
    return d->y;
}

/* ===========================================================================================================
   16 >>cells      RNN, GRU, LSTM; directions; stacks
   ===========================================================================================================
   The element-wise mathematics of the cells stands with their kernels (>>kernels), as does the table that
   says what sets them apart; here is the order of the work around it.

   Words. Each has this one meaning here and among the cells' kernels:
       gate, slot     one of the G sums of a unit, and the place of its gradient in a row of dz
       state          h, and of an LSTM c, of a sequence between two steps
       layer          one cell, or two that read in opposite directions; column: a stack of layers (>>nodes)
       beside         layers of columns that do not read one another, their jobs in common lists
       step, single   a step in time of all sequences; one of one sequence (streams)
       chunk          neighbouring steps that a pass takes together
       part           rows of a step that all go on from the step before (linked), or that all start here
       block, walk    16 units of a part's rows; one block after the other
       turn           what a part does in a step for the units whose weights are near
       joint, apart   gates whose product takes h; those that wait for r and take r*h
       carry          gradient of a state on its way to the step before (dh, dc), one row for each sequence
       same           rows of one id, which share an input product
       extra          the one number that a cell keeps for backward beside gates and states

   Steps are worked through in chunks, so that what one pass leaves is in cache for the next. Who calls whom:
   mtl_cell_forward, mtl__layer_forward, mtl__layers_forward, and for each chunk mtl__layer_forward_chunk
       mtl__cell_input_product     z = x W_ih^T + biases    for all its rows at once; of an embedding's x,
                                                            for each different id of the batch once
       cell_forward (mtl__cell_through, mtl__cell_turn), step by step, for instance mtl__lstm_step
           mtl__cell_product       z_t += h_{t-1} W_hh^T
           mtl__lstm_forward       h_t = cell(z_t)
   mtl__layers_backward, and for each chunk, from the last in reading direction
       cell_backward (mtl__cell_through, mtl__cell_turn), step by step
           mtl__lstm_step_back     dz_t = cell'(dh_t)       mtl__cell_slopes, mtl__lstm_backward
           mtl__cell_step_carry    dh_{t-1} = dz_t W_hh     mtl__cell_product_back
       mtl__cell_weight_gradients  dW_ih += dz^T x,  dW_hh += dz^T h_prev,  db += sum dz    of all its rows
       mtl__cell_back_input        dx = dz W_ih             of all its rows; of columns beside one another
                                                            but one later (mtl__layer_later_backward)
   The recurrence of a chunk and the products of its neighbour do not depend on one another: threads do both
   at once. A stream's step: mtl_cell_stream_step, cell_single, mtl__lstm_single, mtl__lstm_forward.

   What a record keeps, floats per unit and row: RNN 2 (z, y), GRU 5 (r z n, W_hn h + b_hn, y), LSTM 7 (i f g
   o, c, tanh c, y). Forward's scratch: z of one chunk (two with threads; with a tape none), states of all
   sequences, z of at most 8 ids for each sequence. Backward's scratch: dz of one chunk (two with threads),
   states of all sequences, and 64 KB for each job of a weight product.
   -------------------------------------------------------------------------------------------------------- */
struct mtl_cell {
    const mtl__cell_kind *kind;
    int activation, reverse;
    size_t units, inputs;
    mtl_tensor *w_ih, *w_hh, *b_ih, *b_hh;  /* biases NULL: none */
    mtl__matrix *input, *hidden, *hidden_n; /* packed W_ih, W_hh of the joint gates, of the others or NULL */
};

/* MTL_CELL_*, MTL_RESET_* */
static const mtl__cell_kind *mtl__cell_kind_find(int cell, int reset)
{
    const mtl__cell_kind *kind = mtl__cell_kinds;
    while (kind->cell != cell || (kind->reset && kind->reset != reset)) kind++;
    return kind;
}

/* The gates whose hidden product comes after that of the joint ones: reset before. */
static size_t mtl__cell_apart(const mtl__cell_kind *kind) { return kind->gates - kind->joint; }

/* Which packings the products need. */
static void mtl__cell_add_matrices(mtl_parameters *set, mtl_cell *c, mtl_error *err)
{
    const mtl__cell_kind *k = c->kind;
    const size_t apart = mtl__cell_apart(k);
    c->input = mtl__matrix_add(set, c->w_ih, 0, k->gates, c->units, k->order, err);
    mtl__matrix_add_bias(set, c->input, c->b_ih, c->b_hh, 0, k->gates, k->merged);
    c->hidden = mtl__matrix_add(set, c->w_hh, 0, k->joint, c->units, NULL, err);
    if (apart) c->hidden_n = mtl__matrix_add(set, c->w_hh, k->joint * c->units, apart, c->units, NULL, err);
    if (k->merged < k->gates)
        mtl__matrix_add_bias(set, c->hidden, c->b_hh, NULL, k->merged, k->gates - k->merged, 0);
}

/* PREFIXweight_ih_l0_reverse and the like; columns 0: a bias. */
static mtl_tensor *mtl__cell_tensor(mtl_parameters *set, const char *prefix, const char *what, int layer,
                                    int reverse, size_t rows, size_t columns, mtl_error *err)
{
    char name[160];
    mtl__print(name, sizeof name, "%s%s_l%d%s", prefix, what, layer, reverse ? "_reverse" : "");
    return mtl_parameters_add(set, name, rows, columns, columns ? MTL_TENSOR_WEIGHT : MTL_TENSOR_BIAS, err);
}

/* Adds `bias` to the initial bias of the forget gate (Jozefowicz et al. 2015). */
static void mtl__cell_open_forget_gate(const mtl_cell *c, float bias)
{
    mtl_init_rows *rows = &c->b_ih->init_rows;
    rows->first = (size_t)c->kind->forget * c->units;
    rows->count = c->units;
    rows->factor = 1;
    rows->addend = bias;
}

MTL_DEF MTL__RARE mtl_cell *mtl_cell_add(mtl_parameters *set, const char *prefix, const mtl_cell_desc *desc,
                                         size_t inputs, int layer, int reverse, mtl_error *err)
{
    mtl_error own;
    mtl_cell_desc of = *desc;               /* with defaults put in */
    mtl_cell *c;
    size_t rows;
    err = mtl__error_given(err, &own);
    if (mtl_desc_check(MTL_DESC_CELL, &of, "cell", err)) return NULL;
    c = (mtl_cell *)mtl__arena_make(set->arena, 1, sizeof *c, "a cell", err);
    if (!c) return NULL;
    c->kind = mtl__cell_kind_find(of.cell, of.reset);
    c->activation = of.activation;
    c->reverse = reverse != 0;
    c->units = (size_t)of.hidden;
    c->inputs = inputs;
    rows = c->kind->gates * c->units;
    c->w_ih = mtl__cell_tensor(set, prefix, "weight_ih", layer, reverse, rows, inputs, err);
    c->w_hh = mtl__cell_tensor(set, prefix, "weight_hh", layer, reverse, rows, c->units, err);
    if (!of.no_bias) {
        c->b_ih = mtl__cell_tensor(set, prefix, "bias_ih", layer, reverse, rows, 0, err);
        c->b_hh = mtl__cell_tensor(set, prefix, "bias_hh", layer, reverse, rows, 0, err);
    }
    if (mtl__failed(err)) return NULL;
    c->w_ih->initial = c->w_hh->initial = (float)(1 / sqrt((double)c->units));
    c->w_ih->gates = c->w_hh->gates = c->kind->gates;
    if (c->b_ih) c->b_ih->initial = c->b_hh->initial = c->w_ih->initial;
    if (c->b_ih && c->kind->forget) mtl__cell_open_forget_gate(c, of.forget_bias);
    mtl__cell_add_matrices(set, c, err);
    return mtl__failed(err) ? NULL : c;
}

/* What one cell's forward leaves for its backward. */
typedef struct mtl__cell_data {
    const mtl_cell *cell;
    const mtl_packing *packing;
    mtl_activation *x, *y;
    size_t y_first;                         /* where the cell's units begin in y: directions share one y */
    mtl_activation *h0, *c0, *h_last, *c_last;  /* NULL: zeros; not wanted */
    mtl_real *z, *c, *extra;                /* as mtl__cell_pass keeps them */
} mtl__cell_data;

/* A layer is one cell, or two that read x in both directions and share y. Its cells run at once, and so do
   layers that do not read one another (mtl__layers): their jobs stand in one list. */
typedef struct mtl__layer_data {
    size_t count;
    mtl__cell_data cells[2];
    struct mtl__layer_back *back;           /* made by the first backward, for all that follow */
    size_t active;                          /* cells that a gradient has reached */
    int later;                              /* 1: it leaves dx to mtl__layer_later_backward */
} mtl__layer_data;

/* Layers that run beside one another; one alone as well. */
typedef struct mtl__layers {
    size_t count;
    mtl__layer_data **of;                   /* [count] */
} mtl__layers;

/* The part of a pass that forward and backward share. */
static mtl__cell_pass mtl__cell_pass_of(const mtl_run *run, const mtl__cell_data *d)
{
    const mtl_cell *cell = d->cell;
    mtl__cell_pass pass;
    memset(&pass, 0, sizeof pass);
    pass.kind = cell->kind;
    pass.activation = cell->activation;
    pass.reverse = cell->reverse;
    pass.units = cell->units;
    pass.time = &d->packing->time;
    pass.pairs = mtl__run_pairs(run);
    pass.rounded_row = mtl__padded(cell->units) / 2 * cell->kind->gates;
    pass.packed = mtl__run_packed(run, cell->hidden);
    pass.packed_n = cell->hidden_n ? mtl__run_packed(run, cell->hidden_n) : NULL;
    pass.bias_n = cell->hidden->packed_bias;
    pass.z = d->z;
    pass.z_block = d->packing->rows * cell->kind->gates * MTL__BLOCK;
    pass.c = d->c;
    pass.c_stride = mtl__padded(cell->units);
    pass.extra = d->extra;
    pass.y = d->y->value + d->y_first;
    pass.y_stride = d->y->stride;
    if (d->h0) { pass.h0 = d->h0->value; pass.h0_stride = d->h0->stride; }
    if (d->c0) { pass.c0 = d->c0->value; pass.c0_stride = d->c0->stride; }
    return pass;
}

/* z = x W_ih^T + biases for `rows` rows of x. */
static void mtl__cell_input_product(mtl__jobs *jobs, const mtl_cell *cell, const mtl_real *x, size_t x_stride,
                                    size_t rows, mtl_real *z, size_t z_block)
{
    mtl__product_forward p;
    memset(&p, 0, sizeof p);
    p.gates = cell->kind->gates;
    p.units = cell->units;
    p.inputs = cell->inputs;
    p.x = x;
    p.x_stride = x_stride;
    p.packed = mtl__run_packed(jobs->run, cell->input);
    p.pairs = mtl__run_pairs(jobs->run);
    p.bias = cell->input->packed_bias;
    p.z = z;
    p.z_block = z_block;
    p.z_row = cell->kind->gates * MTL__BLOCK;
    mtl__jobs_add_product(jobs, &p, rows);
}

/* ---- chunks of steps: a layer's passes follow one another chunk by chunk, while what one leaves is in cache
   for the next ------------------------------------------------------------------------------------------ */

enum {
    MTL__FORWARD_REALS = 49152,             /* gate values of a chunk of forward: 192 KB, within any
                                               second-level cache, .. */
    MTL__BACKWARD_REALS = 131072,           /* .. and of dz: 512 KB, .. */
    MTL__FORWARD_ROWS = MTL__ROWS,          /* .. but at least so many rows, since each chunk reads the
                                               weights once, and backward .. */
    MTL__BACKWARD_ROWS = MTL__PANEL_ROWS    /* .. their gradients; twice as many where these are larger than
                                               512 KB */
};

/* Steps [begin, end): `rows` packed rows from `first` on, of the sequences 0 .. sequences - 1. */
typedef struct mtl__step_chunk { size_t begin, end, first, rows, sequences; } mtl__step_chunk;
typedef struct mtl__step_chunks {
    size_t count, rows;                     /* most rows of a chunk */
    mtl__step_chunk *of, whole;             /* [count]; whole: the only one of a dry run */
} mtl__step_chunks;

/* Cuts the steps of a batch into chunks of at most reals / width rows, or if that is more, of `least` rows
   (twice as many for a cell with large weights), of one step at least. width: reals of a row. Memory: the
   run's. */
static void mtl__chunks_init(mtl_run *run, const mtl__cell_data *d, size_t reals, size_t least, size_t width,
                             mtl__step_chunks *chunks)
{
    const mtl_packing *p = d->packing;
    const mtl_cell *cell = d->cell;
    const int large = cell->kind->gates * cell->units * (cell->inputs + cell->units) > MTL__BACKWARD_REALS;
    size_t limit = reals / width > least << large ? reals / width : least << large, t;
    mtl__step_chunk *c = NULL;
    chunks->rows = mtl__at_most(limit > p->sequences ? limit : p->sequences, p->rows);
    chunks->of = (mtl__step_chunk *)mtl_run_push(run, p->steps * sizeof *chunks->of);
    chunks->count = 0;
    if (mtl__dry(run) || mtl__failed(run->error)) {
        chunks->count = 1;
        chunks->of = &chunks->whole;
        chunks->whole.begin = chunks->whole.first = 0;
        chunks->whole.end = p->steps;
        chunks->whole.rows = chunks->rows;
        chunks->whole.sequences = p->sequences;
        return;
    }
    for (t = 0; t < p->steps; t++) {
        if (!c || c->rows + p->step_rows[t] > limit) {
            c = &chunks->of[chunks->count++];
            c->begin = t;
            c->first = p->step_offset[t];
            c->sequences = p->step_rows[t];
            c->rows = 0;
        }
        c->end = t + 1;
        c->rows += p->step_rows[t];
    }
}

/* Number i of the chunks in the order in which a cell's pass takes them. */
static const mtl__step_chunk *mtl__chunk_at(const mtl__step_chunks *chunks, size_t i, int from_end)
{
    return &chunks->of[from_end ? chunks->count - 1 - i : i];
}

/* Two buffers where threads work on neighbouring chunks at once. */
static size_t mtl__chunk_buffers(const mtl_run *run) { return run->scheduler ? 2 : 1; }

/* ---- forward ------------------------------------------------------------------------------------------- */

/* Memory of a cell's pass: with a tape what backward needs, of all rows, else one or two chunks of z. c
   without a tape is the caller's. */
static void mtl__cell_forward_begin(mtl_run *run, mtl__cell_data *d, const mtl__step_chunks *chunks)
{
    size_t rows = d->packing->rows, padded = mtl__padded(d->cell->units);
    d->z = mtl__run_reals(run, run->tape ? rows : chunks->rows * mtl__chunk_buffers(run),
                          padded * d->cell->kind->gates);
    if (run->tape && d->cell->kind->has_c) d->c = mtl__run_reals(run, rows, padded);
    if (run->tape && d->cell->kind->keeps_extra) d->extra = mtl__run_reals(run, rows, padded);
    if (run->tape || !d->c) return;
    if (d->c0) mtl__run_copy(run, d->c0->value, d->c0->stride, NULL, d->c, padded, d->packing->sequences,
                             d->cell->units, 0);
}

/* The pass over time, its steps not chosen yet. */
static mtl__cell_pass mtl__cell_forward_pass(mtl_run *run, const mtl__cell_data *d)
{
    mtl__cell_pass pass = mtl__cell_pass_of(run, d);
    size_t padded = mtl__padded(d->cell->units);
    pass.keep = run->tape != NULL;
    if (pass.pairs) pass.rounded = mtl__run_reals(run, d->packing->sequences, pass.rounded_row);
    if (mtl__cell_apart(d->cell->kind)) pass.scratch = mtl__run_reals(run, d->packing->sequences, padded);
    if (pass.keep || !d->c) return pass;
    pass.c0 = d->c;                         /* by sequence: what a sequence's first step reads, it writes */
    pass.c0_stride = padded;
    return pass;
}

/* Points the pass to chunk number i, and z to where this chunk's gates are. */
static const mtl__step_chunk *mtl__cell_forward_to(const mtl_run *run, const mtl__cell_data *d,
                                                     const mtl__step_chunks *chunks, size_t i,
                                                         mtl__cell_pass *pass)
{
    const mtl__step_chunk *chunk = mtl__chunk_at(chunks, i, d->cell->reverse);
    const size_t z_row = d->cell->kind->gates * MTL__BLOCK;
    pass->begin = chunk->begin;
    pass->end = chunk->end;
    if (pass->keep) return chunk;
    pass->z = d->z + i % mtl__chunk_buffers(run) * chunks->rows * mtl__blocks(d->cell->units) * z_row;
    pass->z_block = chunk->rows * z_row;
    pass->z_first = chunk->first;
    return chunk;
}

/* ---- rows that are the same: what comes from an embedding needs one input product for each id, however
   often a batch has it ---------------------------------------------------------------------------------- */

#ifndef MTL__SAME_WORK                          /* multiply-adds of a row's product from which on it pays;
                                                   tests make it small */
#define MTL__SAME_WORK 8192
#endif
enum { MTL__SAME_ROWS = 8 };                    /* different rows that are kept for each sequence of the
                                                   batch, at most */

typedef struct mtl__same_rows {
    size_t count;                           /* different rows; 0: each is taken for itself */
    int *row;                               /* [N] which of them a packed row is */
    mtl_real *x; size_t stride;             /* [count][stride] */
} mtl__same_rows;

/* Worth it from a quarter of the rows on that need no product. Memory: the run's. */
static void mtl__same_rows_find(mtl_run *run, const mtl_cell *cell, const mtl_activation *x,
                                mtl__same_rows *same)
{
    const mtl_packing *p = x->space->packing;
    const size_t most = mtl__at_most(MTL__SAME_ROWS * p->sequences, p->rows);
    mtl__row_groups groups;
    mtl_arena_mark mark;
    size_t k, n;
    memset(same, 0, sizeof *same);
    if (!x->ids || p->sequences < MTL__SEQUENCES
        || cell->kind->gates * cell->units * cell->inputs < MTL__SAME_WORK) return;
    same->row = (int *)mtl_run_push(run, p->rows * sizeof *same->row);
    same->stride = x->stride;
    same->x = mtl__run_reals(run, most, same->stride);
    mark = mtl_arena_save(run->arena);
    mtl__row_groups_push(run, &groups, p->rows);
    if (mtl__dry(run)) same->count = most;  /* which ids there are is not known */
    else if (!mtl__failed(run->error)) {
        mtl__row_groups_find(&groups, p->rows, x->ids, p->caller_row, 0);
        if (groups.distinct <= most && groups.distinct <= p->rows / 4 * 3) same->count = groups.distinct;
        for (k = 0; k < same->count; k++) {
            for (n = groups.first[k]; n < groups.first[k + 1]; n++) same->row[groups.rows[n]] = (int)k;
            memcpy(same->x + k * same->stride, x->value + (size_t)groups.rows[groups.first[k]] * x->stride,
                   x->width * sizeof *x->value);
        }
    }
    mtl_arena_release(run->arena, mark);
}

/* The products of the different rows, for all steps at once. */
static void mtl__layer_same_products(mtl_run *run, const mtl__layer_data *layer, const mtl__same_rows *same,
                                     mtl__cell_pass *pass)
{
    mtl_real *z[2];
    mtl__jobs jobs;
    size_t k;
    for (k = 0; k < layer->count; k++)
        z[k] = mtl__run_reals(run, same->count, mtl__padded(layer->cells[k].cell->units)
                              * layer->cells[k].cell->kind->gates);
    mtl__jobs_begin(&jobs, run);
    for (k = 0; k < layer->count && !mtl__failed(run->error); k++) {
        pass[k].same = z[k];
        pass[k].same_block = same->count * layer->cells[k].cell->kind->gates * MTL__BLOCK;
        pass[k].same_row = same->row;
        mtl__cell_input_product(&jobs, layer->cells[k].cell, same->x, same->stride, same->count, z[k],
                                pass[k].same_block);
    }
    mtl__jobs_run(&jobs);
}

/* Of one layer, while its forward runs. */
typedef struct mtl__layer_ahead {
    mtl__step_chunks chunks;
    mtl__same_rows same;
    mtl__cell_pass pass[2];
} mtl__layer_ahead;

static void mtl__layer_ahead_init(mtl_run *run, mtl__layer_data *layer, mtl__layer_ahead *ahead)
{
    const mtl_cell *cell = layer->cells[0].cell;
    size_t k;
    mtl__chunks_init(run, &layer->cells[0], MTL__FORWARD_REALS / layer->count, MTL__FORWARD_ROWS,
                     mtl__padded(cell->units) * cell->kind->gates, &ahead->chunks);
    for (k = 0; k < layer->count && !run->tape; k++)
        mtl__cell_forward_begin(run, &layer->cells[k], &ahead->chunks);
    for (k = 0; k < layer->count; k++) ahead->pass[k] = mtl__cell_forward_pass(run, &layer->cells[k]);
    mtl__same_rows_find(run, cell, layer->cells[0].x, &ahead->same);
    if (ahead->same.count) mtl__layer_same_products(run, layer, &ahead->same, ahead->pass);
}

/* The steps of chunk number i - 1 and the input products of chunk number i. */
static void mtl__layer_forward_chunk(mtl__jobs *jobs, const mtl__layer_data *layer, mtl__layer_ahead *ahead,
                                     size_t i)
{
    const mtl__step_chunks *chunks = &ahead->chunks;
    size_t k;
    for (k = 0; k < layer->count && i > 0 && i <= chunks->count; k++) {
        mtl__cell_pass *pass = &ahead->pass[k];
        const mtl__step_chunk *chunk = mtl__cell_forward_to(jobs->run, &layer->cells[k], chunks, i - 1, pass);
        mtl__jobs_add_cell(jobs, mtl__cell_forward_part, pass, chunk->sequences);
    }
    for (k = 0; k < layer->count && i < chunks->count && !ahead->same.count; k++) {
        const mtl__cell_data *d = &layer->cells[k];
        mtl__cell_pass *pass = &ahead->pass[k];
        const mtl__step_chunk *chunk = mtl__cell_forward_to(jobs->run, d, chunks, i, pass);
        mtl__cell_input_product(jobs, d->cell, d->x->value + chunk->first * d->x->stride, d->x->stride,
                                chunk->rows, pass->z + (chunk->first - pass->z_first)
                                    * mtl__cell_z_row(pass), pass->z_block);
    }
}

/* Input products of a chunk and the steps of the chunk before do not depend on one another: one list of jobs.
   With one thread jobs run in the order of the list, so one buffer of z is enough. */
static void mtl__layers_forward_chunks(mtl_run *run, const mtl__layers *layers)
{
    mtl_arena_mark mark;
    mtl__layer_ahead *ahead;
    mtl__jobs jobs;
    size_t i, j, k, lists = 0;
    for (j = 0; j < layers->count && run->tape; j++)
        for (k = 0; k < layers->of[j]->count; k++)
            mtl__cell_forward_begin(run, &layers->of[j]->cells[k], NULL);
    mark = mtl_arena_save(run->arena);
    ahead = (mtl__layer_ahead *)mtl_run_make(run, layers->count * sizeof *ahead);
    for (j = 0; ahead && j < layers->count; j++) {
        mtl__layer_ahead_init(run, layers->of[j], &ahead[j]);
        if (ahead[j].chunks.count + 1 > lists) lists = ahead[j].chunks.count + 1;
    }
    for (i = 0; i < lists && !mtl__failed(run->error); i++) {
        mtl__jobs_begin(&jobs, run);
        for (j = 0; j < layers->count; j++) mtl__layer_forward_chunk(&jobs, layers->of[j], &ahead[j], i);
        mtl__jobs_run(&jobs);
    }
    mtl_arena_release(run->arena, mark);
}

/* States after each sequence's last step in reading direction, [B][H]. */
static mtl_activation *mtl__cell_last(mtl_run *run, const mtl__cell_data *d, const mtl_real *from,
                                      size_t stride, int by_sequence)
{
    const mtl_packing *p = d->packing;
    mtl_activation *last = mtl__run_over(run, NULL, &p->space[MTL_LEVEL_SEQUENCE], d->cell->units);
    if (last) mtl__run_copy(run, from, stride, by_sequence || d->cell->reverse ? NULL : p->last, last->value,
                            last->stride, last->rows, last->width, 0);
    return last;
}

/* ---- backward ------------------------------------------------------------------------------------------ */

/* Gradient of a last state (or zeros) into a padded [B][stride] carry. */
static mtl_real *mtl__cell_carry_begin(mtl_run *run, const mtl__cell_data *d, const mtl_activation *last)
{
    size_t stride = mtl__padded(d->cell->units);
    mtl_real *carry = mtl__run_zeros(run, d->packing->sequences, stride);
    if (last && last->grad_state != MTL_GRAD_NONE)
        mtl__run_copy(run, last->grad, last->stride, NULL, carry, stride, last->rows, last->width, 0);
    return carry;
}

/* The finished carry is the gradient of the initial state. */
static void mtl__cell_initial_gradient(mtl_run *run, const mtl__cell_data *d, const mtl_real *carry,
                                       const mtl_activation *initial, mtl_real *grad, int add)
{
    if (grad) mtl__run_copy(run, carry, mtl__padded(d->cell->units), NULL, grad, initial->stride,
                            initial->rows, d->cell->units, add);
}

/* Of one cell, while its layer's backward runs. */
typedef struct mtl__cell_back {
    const mtl__cell_data *data;
    mtl__cell_pass pass;
    mtl_real *dz;                           /* one or two chunks; all, where dx is computed later */
    mtl_real *dx, *dh0, *dc0;               /* wanted gradients, NULL: not wanted */
    int add_x, add_h, add_c;
} mtl__cell_back;

/* Of a layer's active cells. */
typedef struct mtl__layer_back {
    mtl__step_chunks chunks;
    mtl__cell_back cells[2];
    mtl_real *dz[2];                        /* of all rows, where dx is computed later; NULL: of chunks */
} mtl__layer_back;

/* Weight gradients of the chunk that the pass points to: `gates` slots of dz from `slot` on, against rows of
   x (or of the state before: source). */
static mtl__product_weights mtl__cell_weights(const mtl__cell_back *back, const mtl__step_chunk *chunk,
                                              size_t slot, size_t gates)
{
    mtl__product_weights p;
    memset(&p, 0, sizeof p);
    p.gates = gates;
    p.units = back->data->cell->units;
    p.rows = chunk->rows;
    p.dz = back->pass.dz + slot * MTL__BLOCK;
    p.dz_row = back->data->cell->kind->slots * MTL__BLOCK;
    p.dz_block = back->pass.dz_block;
    return p;
}

/* Both biases of every gate are added to z: they have the same gradient. */
static int mtl__cell_biases_alike(const mtl_cell *cell) { return cell->kind->merged == cell->kind->gates; }

static void mtl__cell_input_gradients(mtl__jobs *jobs, const mtl__cell_back *back,
                                      const mtl__step_chunk *chunk)
{
    const mtl__cell_data *d = back->data;
    const mtl_cell *cell = d->cell;
    mtl__product_weights p = mtl__cell_weights(back, chunk, 0, cell->kind->gates);
    p.inputs = cell->inputs;
    p.order = cell->kind->order;
    p.x = d->x->value + chunk->first * d->x->stride;
    p.x_stride = d->x->stride;
    mtl__jobs_add_gradients(jobs, &p, cell->w_ih, 0, cell->b_ih,
                            mtl__cell_biases_alike(cell) ? cell->b_hh : NULL);
}

static void mtl__cell_hidden_gradients(mtl__jobs *jobs, const mtl__cell_back *back,
                                       const mtl__step_chunk *chunk)
{
    const mtl__cell_data *d = back->data;
    const mtl_cell *cell = d->cell;
    mtl__product_weights p = mtl__cell_weights(back, chunk, cell->kind->hidden_slot, cell->kind->joint);
    p.inputs = cell->units;
    p.x = d->y->value + d->y_first;
    p.x_stride = d->y->stride;
    p.source = d->packing->previous[cell->reverse] + chunk->first;
    if (d->h0) { p.x0 = d->h0->value; p.x0_stride = d->h0->stride; }
    mtl__jobs_add_gradients(jobs, &p, cell->w_hh, 0, mtl__cell_biases_alike(cell) ? NULL : cell->b_hh, NULL);
}

/* Of the gates apart: W_hn multiplies r*h, which forward kept. Its rows follow those of the joint gates,
   already assigned or added to. */
static void mtl__cell_apart_gradient(mtl__jobs *jobs, const mtl__cell_back *back,
                                     const mtl__step_chunk *chunk, int add)
{
    const mtl_cell *cell = back->data->cell;
    mtl__product_weights p = mtl__cell_weights(back, chunk, 0, mtl__cell_apart(cell->kind));
    const mtl_gradient *g = mtl__run_gradient(jobs->run, cell->w_hh);
    if (!g) return;
    p.inputs = cell->units;
    p.x_stride = mtl__padded(cell->units);
    p.x = back->data->extra + chunk->first * p.x_stride;
    p.dw = g->value + cell->kind->joint * cell->units * cell->units;
    p.accumulate = add;
    mtl__jobs_add_weights(jobs, &p);
}

static void mtl__cell_weight_gradients(mtl__jobs *jobs, const mtl__cell_back *back,
                                       const mtl__step_chunk *chunk)
{
    const mtl_gradient *g = mtl__run_gradient(jobs->run, back->data->cell->w_hh);
    const int add = g && g->state == MTL_GRAD_DENSE;
    mtl__cell_input_gradients(jobs, back, chunk);
    mtl__cell_hidden_gradients(jobs, back, chunk);
    if (mtl__cell_apart(back->data->cell->kind)) mtl__cell_apart_gradient(jobs, back, chunk, add);
}

static int mtl__has_gradient(const mtl_activation *a) { return a && a->grad_state != MTL_GRAD_NONE; }

/* Asks for the gradients that backward writes, of x only if `wants_x`. Returns 0 when none reaches the
   cell. */
static int mtl__cell_back_begin(mtl_run *run, const mtl__cell_data *d, int wants_x, mtl__cell_back *back)
{
    if (!mtl__has_gradient(d->y) && !mtl__has_gradient(d->h_last) && !mtl__has_gradient(d->c_last)) return 0;
    memset(back, 0, sizeof *back);
    back->data = d;
    back->dx = wants_x ? mtl_run_grad(run, d->x, &back->add_x) : NULL;
    back->dh0 = d->h0 ? mtl_run_grad(run, d->h0, &back->add_h) : NULL;
    back->dc0 = d->c0 ? mtl_run_grad(run, d->c0, &back->add_c) : NULL;
    return 1;
}

/* Scratch, and the pass over time, its steps not chosen yet. dz: of all rows, NULL: of one or two chunks. */
static void mtl__cell_back_pass(mtl_run *run, mtl__cell_back *back, const mtl__step_chunks *chunks,
                                mtl_real *dz)
{
    const mtl__cell_data *d = back->data;
    const mtl_cell *cell = d->cell;
    mtl__cell_pass pass = mtl__cell_pass_of(run, d);
    pass.keep = 1;
    pass.dy = mtl__has_gradient(d->y) ? d->y->grad + d->y_first : NULL;
    pass.dy_stride = d->y->stride;
    back->dz = dz ? dz : mtl__run_reals(run, chunks->rows * mtl__chunk_buffers(run),
                                        mtl__padded(cell->units) * cell->kind->slots);
    pass.packed_t = mtl__run_packed_t(run, cell->hidden);
    if (cell->hidden_n) pass.packed_n_t = mtl__run_packed_t(run, cell->hidden_n);
    if (pass.pairs) pass.rounded = mtl__run_reals(run, d->packing->sequences, pass.rounded_row);
    pass.dh = mtl__cell_carry_begin(run, d, d->h_last);
    pass.dh_stride = mtl__padded(cell->units);
    if (cell->kind->has_c) pass.dc = mtl__cell_carry_begin(run, d, d->c_last);
    if (mtl__cell_apart(cell->kind)) pass.scratch = mtl__run_reals(run, d->packing->sequences,
                                                                   mtl__padded(cell->units));
    pass.want_dh0 = back->dh0 != NULL;
    back->pass = pass;
}

/* Points the pass to chunk number i, and dz to this chunk's. */
static const mtl__step_chunk *mtl__cell_back_to(const mtl_run *run, mtl__layer_back *layer, size_t k,
                                                size_t i)
{
    mtl__cell_back *back = &layer->cells[k];
    const mtl__step_chunks *chunks = &layer->chunks;
    const mtl_cell *cell = back->data->cell;
    const mtl__step_chunk *chunk = mtl__chunk_at(chunks, i, !cell->reverse);
    const size_t dz_row = cell->kind->slots * MTL__BLOCK;
    const size_t before = layer->dz[k] ? chunk->first : i % mtl__chunk_buffers(run) * chunks->rows;
    back->pass.begin = chunk->begin;
    back->pass.end = chunk->end;
    back->pass.dz = back->dz + before * mtl__blocks(cell->units) * dz_row;
    back->pass.dz_block = chunk->rows * dz_row;
    back->pass.dz_first = chunk->first;
    return chunk;
}

/* What a cell has to do for a chunk, number i in its own order: passes to be added to a list. */
typedef void (*mtl__cell_back_add)(mtl__jobs *jobs, const mtl__layer_data *layer, size_t k, size_t i,
                                   const mtl__step_chunk *chunk);

static void mtl__cell_back_steps(mtl__jobs *jobs, const mtl__layer_data *layer, size_t k, size_t i,
                                 const mtl__step_chunk *chunk)
{
    (void)i;
    mtl__jobs_add_cell(jobs, mtl__cell_backward_part, &layer->back->cells[k].pass, chunk->sequences);
}

static void mtl__cell_back_weights(mtl__jobs *jobs, const mtl__layer_data *layer, size_t k, size_t i,
                                   const mtl__step_chunk *chunk)
{
    (void)i;
    mtl__cell_weight_gradients(jobs, &layer->back->cells[k], chunk);
}

/* dx. Two cells come from opposite ends, so of a chunk's dx that one writes first which meets it first: chunk
   n-1-i of one is chunk i of the other. */
static void mtl__cell_back_input(mtl__jobs *jobs, const mtl__layer_data *layer, size_t k, size_t i,
                                 const mtl__step_chunk *chunk)
{
    const mtl__cell_back *cell = &layer->back->cells[k];
    const mtl__cell_data *d = cell->data;
    const size_t other = layer->back->chunks.count - 1 - i;
    mtl__product_weights dz = mtl__cell_weights(cell, chunk, 0, d->cell->kind->gates);
    int second = layer->active > 1 && (other < i || (other == i && k));
    dz.inputs = d->cell->inputs;
    if (cell->dx)
        mtl__jobs_add_input_gradient(jobs, &dz, d->cell->input, cell->dx + chunk->first * d->x->stride,
                                     d->x->stride, layer->back->cells[0].add_x || second);
}

/* The same of all cells of a layer. */
static void mtl__layer_back_add(mtl__jobs *jobs, const mtl__layer_data *layer, size_t i,
                                mtl__cell_back_add add)
{
    size_t k;
    for (k = 0; k < layer->active && i < layer->back->chunks.count; k++)
        add(jobs, layer, k, i, mtl__cell_back_to(jobs->run, layer->back, k, i));
}

/* Cuts the layer's backward into chunks. */
static void mtl__layer_back_cut(mtl_run *run, const mtl__layer_data *layer, mtl__layer_back *back)
{
    const mtl__cell_data *d = &layer->cells[0];
    const size_t width = mtl__padded(d->cell->units) * d->cell->kind->slots;
    size_t k;
    mtl__chunks_init(run, d, MTL__BACKWARD_REALS, MTL__BACKWARD_ROWS, width, &back->chunks);
    for (k = 0; k < layer->count && layer->later; k++)
        back->dz[k] = mtl__run_reals(run, d->packing->rows, width);
}

/* Asks for the gradients that backward writes, and makes once what lives longer than its scratch. Returns how
   many cells a gradient has reached. */
static size_t mtl__layer_back_begin(mtl_run *run, mtl__layer_data *layer)
{
    size_t k;
    layer->active = 0;
    if (!layer->back) layer->back = (mtl__layer_back *)mtl_run_make(run, sizeof *layer->back);
    for (k = 0; layer->back && k < layer->count; k++)
        layer->active += (size_t)mtl__cell_back_begin(run, &layer->cells[k], !layer->later,
                                                      &layer->back->cells[layer->active]);
    if (layer->active && layer->later && !layer->back->dz[0]) mtl__layer_back_cut(run, layer, layer->back);
    return layer->active;
}

/* Returns how many lists of jobs it takes. */
static size_t mtl__layer_back_passes(mtl_run *run, const mtl__layer_data *layer)
{
    mtl__layer_back *back = layer->back;
    size_t k;
    if (!layer->active) return 0;
    if (!layer->later) mtl__layer_back_cut(run, layer, back);
    for (k = 0; k < layer->active; k++) mtl__cell_back_pass(run, &back->cells[k], &back->chunks, back->dz[k]);
    return back->chunks.count + 1;
}

static void mtl__layer_back_initial(mtl_run *run, const mtl__layer_data *layer)
{
    size_t k;
    for (k = 0; k < layer->active; k++) {
        const mtl__cell_back *back = &layer->back->cells[k];
        mtl__cell_initial_gradient(run, back->data, back->pass.dh, back->data->h0, back->dh0, back->add_h);
        mtl__cell_initial_gradient(run, back->data, back->pass.dc, back->data->c0, back->dc0, back->add_c);
    }
}

/* Steps of a chunk and gradients of the chunk before it do not depend on one another: one list of jobs, the
   longest first. One thread takes the gradients first, while their dz is in cache, and one buffer of dz is
   enough. */
static void mtl__layers_back_list(mtl__jobs *jobs, const mtl__layers *layers, size_t i, int gradients)
{
    size_t j;
    for (j = layers->count; j-- > 0;) {
        const mtl__layer_data *layer = layers->of[j];
        if (!gradients) mtl__layer_back_add(jobs, layer, i, mtl__cell_back_steps);
        else if (i > 0) {
            mtl__layer_back_add(jobs, layer, i - 1, mtl__cell_back_weights);
            mtl__layer_back_add(jobs, layer, i - 1, mtl__cell_back_input);
        }
    }
}

static void mtl__layers_backward(mtl_run *run, void *data)
{
    const mtl__layers *layers = (const mtl__layers *)data;
    const int threads = run->scheduler != NULL;
    mtl__jobs jobs;
    mtl_arena_mark mark;
    size_t i, j, active = 0, lists = 0, own;
    for (j = layers->count; j-- > 0;) active += mtl__layer_back_begin(run, layers->of[j]);
    if (!active) return;
    mark = mtl_arena_save(run->arena);
    for (j = layers->count; j-- > 0;)
        if ((own = mtl__layer_back_passes(run, layers->of[j])) > lists) lists = own;
    for (i = 0; i < lists && !mtl__failed(run->error); i++) {
        mtl__jobs_begin(&jobs, run);
        mtl__layers_back_list(&jobs, layers, i, !threads);
        mtl__layers_back_list(&jobs, layers, i, threads);
        mtl__jobs_run(&jobs);
    }
    for (j = layers->count; j-- > 0 && !mtl__failed(run->error);) mtl__layer_back_initial(run, layers->of[j]);
    mtl_arena_release(run->arena, mark);
}

/* dx of a layer that ran beside others, as late as if it had run alone: what others add to the same gradient
   is added in the same order, so the bits are the same. */
static void mtl__layer_later_backward(mtl_run *run, void *data)
{
    const mtl__layer_data *layer = (const mtl__layer_data *)data;
    mtl__jobs jobs;
    size_t i, k;
    for (k = 0; k < layer->active; k++) {
        mtl__cell_back *cell = &layer->back->cells[k];
        cell->dx = mtl_run_grad(run, cell->data->x, &cell->add_x);
    }
    for (i = 0; layer->active && i < layer->back->chunks.count && !mtl__failed(run->error); i++) {
        mtl__jobs_begin(&jobs, run);
        mtl__layer_back_add(&jobs, layer, i, mtl__cell_back_input);
        mtl__jobs_run(&jobs);
    }
}

/* ---- the wrapper --------------------------------------------------------------------------------------- */

/* `count` cells (one, or one for each direction) over x into neighbouring columns of y, [N][count*H].
   initial: [count], NULL or as in mtl_cell_forward. */
static mtl__layer_data *mtl__layer_make(mtl_run *run, const mtl_cell *const *cells, size_t count,
                                        mtl_activation *x, mtl_activation *y, const mtl_cell_state *initial)
{
    mtl__layer_data *layer = (mtl__layer_data *)mtl_run_make(run, sizeof *layer);
    size_t i;
    if (!layer || !x || !y) return NULL;
    layer->count = count;
    for (i = 0; i < count; i++) {
        mtl__cell_data *d = &layer->cells[i];
        const int has_c = cells[i]->kind->has_c;
        d->cell = cells[i];
        d->packing = x->space->packing;
        d->x = x;
        d->y = y;
        d->y_first = i * cells[0]->units;
        if (initial) { d->h0 = initial[i].h; d->c0 = has_c ? initial[i].c : NULL; }
        if (has_c && !run->tape) d->c = mtl__run_zeros(run, d->packing->sequences,
                                                      mtl__padded(d->cell->units));
    }
    return layer;
}

/* final: [cells of the layer] */
static void mtl__layer_final(mtl_run *run, mtl__layer_data *layer, mtl_cell_state *final)
{
    size_t i;
    for (i = 0; i < layer->count && !mtl__failed(run->error); i++) {
        mtl__cell_data *d = &layer->cells[i];
        final[i].h = d->h_last = mtl__cell_last(run, d, d->y->value + d->y_first, d->y->stride, 0);
        final[i].c = d->c_last = d->c ? mtl__cell_last(run, d, d->c, mtl__padded(d->cell->units), !run->tape)
            : NULL;
    }
}

static mtl__layers *mtl__layers_make(mtl_run *run, size_t count)
{
    mtl__layers *layers = (mtl__layers *)mtl_run_make(run, sizeof *layers);
    if (!layers) return NULL;
    layers->count = count;
    layers->of = (mtl__layer_data **)mtl_run_make(run, count * sizeof *layers->of);
    return layers->of ? layers : NULL;
}

/* Layers that do not read one another. final: [layers], NULL: not wanted. */
static void mtl__layers_forward(mtl_run *run, mtl__layers *layers, mtl_cell_state *const *final)
{
    size_t j;
    if (mtl__failed(run->error)) return;
    mtl__layers_forward_chunks(run, layers);
    for (j = 0; j < layers->count; j++)
        if (final[j]) mtl__layer_final(run, layers->of[j], final[j]);
    mtl_run_record(run, NULL, mtl__layers_backward, layers);
}

/* One layer alone. initial, final: [count], NULL or as in mtl_cell_forward. */
static void mtl__layer_forward(mtl_run *run, const mtl_cell *const *cells, size_t count, mtl_activation *x,
                               mtl_activation *y, const mtl_cell_state *initial, mtl_cell_state *final)
{
    mtl__layers *layers = mtl__layers_make(run, 1);
    if (!layers) return;
    layers->of[0] = mtl__layer_make(run, cells, count, x, y, initial);
    mtl__layers_forward(run, layers, &final);
}

MTL_DEF mtl_activation *mtl_cell_forward(mtl_run *run, const mtl_cell *cell, mtl_activation *x,
                                         const mtl_cell_state *initial, mtl_cell_state *final)
{
    mtl_activation *y;
    if (x && (!x->space || x->space->level != MTL_LEVEL_STEP))
        mtl__fail(run->error, MTL_ERROR_ARGUMENT, "x", -1,
                  "rows of x are no sequences' steps: pack the run first, or set x->space");
    if (!x || mtl__failed(run->error)) return NULL;
    y = mtl__run_beside(run, NULL, x, cell->units);
    mtl__layer_forward(run, &cell, 1, x, y, initial, final);
    return mtl__failed(run->error) ? NULL : y;
}

/* The cell, if it is of the kind that the call's name says. */
static mtl_activation *mtl__cell_forward_if(mtl_run *run, int is, const mtl_cell *cell, mtl_activation *x,
                                            const mtl_cell_state *initial, mtl_cell_state *final)
{
    if (cell->kind->cell != is)
        mtl__fail(run->error, MTL_ERROR_ARGUMENT, "cell", cell->kind->cell,
                  "the cell is of another kind than the call: use mtl_%s_forward or mtl_cell_forward",
                  cell->kind->name);
    return mtl_cell_forward(run, cell, x, initial, final);
}

MTL_DEF mtl_activation *mtl_rnn_forward(mtl_run *run, const mtl_cell *cell, mtl_activation *x,
                                        const mtl_cell_state *initial, mtl_cell_state *final)
{
    return mtl__cell_forward_if(run, MTL_CELL_RNN, cell, x, initial, final);
}
MTL_DEF mtl_activation *mtl_gru_forward(mtl_run *run, const mtl_cell *cell, mtl_activation *x,
                                        const mtl_cell_state *initial, mtl_cell_state *final)
{
    return mtl__cell_forward_if(run, MTL_CELL_GRU, cell, x, initial, final);
}
MTL_DEF mtl_activation *mtl_lstm_forward(mtl_run *run, const mtl_cell *cell, mtl_activation *x,
                                         const mtl_cell_state *initial, mtl_cell_state *final)
{
    return mtl__cell_forward_if(run, MTL_CELL_LSTM, cell, x, initial, final);
}

/* ---- one step at a time -------------------------------------------------------------------------------- */

struct mtl_cell_stream {
    const mtl__kernels *kernels;
    mtl__cell_single pass;                  /* with arrays behind this structure: h, c, z, extra */
};

/* Reals of each array: states; gate values; what the kernel needs beside them. */
static size_t mtl__stream_reals(const mtl_cell *cell, size_t *states, size_t *z, size_t *extra)
{
    size_t padded = mtl__padded(cell->units);
    *states = padded * (cell->kind->has_c ? 2 : 1);
    *z = padded * cell->kind->gates;
    *extra = padded * cell->kind->single_extra;
    return *states + *z + *extra;
}

MTL_DEF size_t mtl_cell_stream_size(const mtl_cell *cell)
{
    size_t states, z, extra;
    return cell ? mtl__round_up(sizeof(mtl_cell_stream), MTL__ALIGNMENT)
        + mtl__stream_reals(cell, &states, &z, &extra) * sizeof(mtl_real) : 0;
}

MTL_DEF mtl_cell_stream *mtl_cell_stream_init(void *buffer, size_t bytes, const mtl_cell *cell, int isa,
                                              mtl_error *err)
{
    mtl_cell_stream *stream = (mtl_cell_stream *)buffer;
    mtl__cell_single *p;
    size_t states, z, extra;
    mtl_error own;
    err = mtl__error_given(err, &own);
    if (!mtl__given(cell, "cell", err) || mtl__check_buffer(buffer, bytes, mtl_cell_stream_size(cell),
                                                            "a stream", err)) return NULL;
    memset(stream, 0, sizeof *stream);
    stream->kernels = mtl__kernels_choose(isa);
    if (!stream->kernels) {
        mtl__fail(err, MTL_ERROR_UNSUPPORTED, "isa", isa, "this machine has no %s kernels",
                  mtl__isa_name(isa));
        return NULL;
    }
    p = &stream->pass;
    p->kind = cell->kind;
    p->activation = cell->activation;
    p->units = cell->units;
    p->inputs = cell->inputs;
    p->packed_input = cell->input->packed;
    p->bias = cell->input->packed_bias;
    p->packed = cell->hidden->packed;
    p->packed_n = cell->hidden_n ? cell->hidden_n->packed : NULL;
    p->bias_n = cell->hidden->packed_bias;
    mtl__stream_reals(cell, &states, &z, &extra);
    p->h = (mtl_real *)(void *)((unsigned char *)buffer + mtl__round_up(sizeof *stream, MTL__ALIGNMENT));
    p->c = cell->kind->has_c ? p->h + states / 2 : NULL;
    p->z = p->h + states;
    p->extra = p->z + z;
    mtl_cell_stream_reset(stream, NULL, NULL);
    return stream;
}

MTL_DEF const mtl_real *mtl_cell_stream_step(mtl_cell_stream *stream, const mtl_real *x)
{
    uint64_t before;
    MTL_ASSERT(stream && x);
    before = mtl__arithmetic_set();
    stream->kernels->cell_single(&stream->pass, x);
    mtl__arithmetic_restore(before);
    return stream->pass.h;
}

/* Padding of the states is zero and stays it: padded weights and biases are zero, so i*g = 0 and (1 - z)*n =
   0 there (an RNN's may become a sigmoid's 1/2; nothing reads it). */
static void mtl__stream_state(mtl_real *to, const mtl_real *from, size_t units)
{
    if (from && from != to) memcpy(to, from, units * sizeof *to);
    memset(to + (from ? units : 0), 0, (mtl__padded(units) - (from ? units : 0)) * sizeof *to);
}

MTL_DEF void mtl_cell_stream_reset(mtl_cell_stream *stream, const mtl_real *h, const mtl_real *c)
{
    mtl__stream_state(stream->pass.h, h, stream->pass.units);
    if (stream->pass.c) mtl__stream_state(stream->pass.c, c, stream->pass.units);
}

MTL_DEF const mtl_real *mtl_cell_stream_memory(const mtl_cell_stream *stream) { return stream->pass.c; }

/* ===========================================================================================================
   17 >>losses     cross-entropy, MSE, MAE, Huber, binary cross-entropy; penalties
   ===========================================================================================================
   A loss is L = (sum over labelled items) / divisor, where the divisor counts the labelled items of the whole
   update (their class weights, for class tasks that have them; times width for vectors), so that parts of a
   batch add up to the whole. Rows here are labelled items only; rows[m] tells which of the caller's items row
   m is.

   Cross-entropy of a row with coefficients a_c:   l = -sum_c a_c log p_c = (sum a) log sum exp x - sum_c a_c
                                                   x_c dl/dx_c = (sum a) p_c - a_c
       label y:         a_c = w_c ((1 - s) [c = y] + s / C)   but the first part with w_y       s: label
                                                              smoothing
       distribution q:  a_c = w_c ((1 - s) q_c + s / C)                                          as PyTorch
       defines both
   -------------------------------------------------------------------------------------------------------- */
typedef struct mtl__loss_data {
    int loss;                               /* MTL_LOSS_* */
    mtl_real smoothing, delta;              /* label smoothing; Huber's delta */
    const float *class_weights;             /* [C] or NULL */
    const mtl_target *target;
    const int *items;                       /* [M] the caller's item of row m */
    const mtl_scaling *scaling;             /* of real targets */
    double divisor;
    mtl_activation *x, *y;                  /* logits or predictions; the loss, 1 x 1 */
    mtl__cross_entropy pass;                /* what backward needs of class tasks; of real ones loss
                                               [M][width] in forward, dx and accumulate in backward */
    mtl_output_loss of_output;              /* a program's own; NULL: by `loss` */
    const mtl_task_part *part;              /* its argument */
} mtl__loss_data;

static void mtl__softmax_part(const mtl__kernels *kernels, const void *pass, size_t begin, size_t end)
{
    kernels->softmax((const mtl__softmax *)pass, begin, end);
}

static void mtl__softmax_rows(mtl_run *run, const mtl_activation *x, const mtl_activation *p)
{
    mtl__softmax s;
    s.rows = x->rows;
    s.classes = x->width;
    s.x = x->value;
    s.x_stride = x->stride;
    s.p = p->value;
    s.p_stride = p->stride;
    mtl__run_rows(run, mtl__softmax_part, &s, sizeof s, x->rows, 0);
}

/* p = softmax(x);  dx = p * (dp - sum_c dp_c p_c) */
static void mtl__softmax_back_part(const mtl__kernels *kernels, const void *pass, size_t n, size_t end)
{
    const mtl__rowwise *d = (const mtl__rowwise *)pass;
    (void)kernels;
    for (; n < end; n++) {
        const mtl_real *p = mtl__row(d->y, n), *dp = d->y->grad + n * d->y->stride;
        const mtl_real mean = mtl__row_dot(p, dp, d->y->width);
        mtl_real *dx = mtl__row_open(d->dx, d->x->stride, d->y->width, n, d->add);
        size_t j;
        for (j = 0; j < d->y->width; j++) dx[j] += p[j] * (dp[j] - mean);
    }
}

static mtl_activation *mtl__softmax_forward(mtl_run *run, mtl_activation *x, const char *name)
{
    mtl__rowwise *d = (mtl__rowwise *)mtl_run_make(run, sizeof *d);
    mtl_activation *p = x ? mtl__run_beside(run, name, x, x->width) : NULL;
    if (!d || !p) return NULL;
    d->x = x;
    d->y = p;
    d->back = mtl__softmax_back_part;
    mtl__softmax_rows(run, x, p);
    mtl_run_record(run, p, mtl__rowwise_backward, d);
    return p;
}

static void mtl__cross_entropy_part(const mtl__kernels *kernels, const void *pass, size_t begin, size_t end)
{
    kernels->cross_entropy_forward((const mtl__cross_entropy *)pass, begin, end);
}

/* dx = g / divisor * ((sum a) p - a), with g the gradient of the loss itself. The loss of a single class does
   not depend on x; of what rounding leaves of (sum a) p - a, Adam would make whole steps. */
static void mtl__cross_entropy_back_part(const mtl__kernels *kernels, const void *pass, size_t begin,
                                         size_t end)
{
    const mtl__loss_data *d = (const mtl__loss_data *)pass;
    mtl__cross_entropy p = d->pass;
    p.factor = d->x->width > 1 ? (mtl_real)((double)d->y->grad[0] / d->divisor) : 0;
    kernels->cross_entropy_backward(&p, begin, end);
}

static void mtl__cross_entropy_backward(mtl_run *run, void *data)
{
    mtl__loss_data *d = (mtl__loss_data *)data;
    d->pass.dx = mtl_run_grad(run, d->x, &d->pass.accumulate);
    d->pass.dx_stride = d->x->stride;
    if (d->pass.dx) mtl__run_rows(run, mtl__cross_entropy_back_part, d, sizeof *d, d->x->rows, 0);
}

/* L from the losses of rows or elements, added up in their order. */
typedef struct mtl__total_pass {
    const double *loss;                     /* [count] */
    size_t count;
    double divisor;
    mtl_real *y;
} mtl__total_pass;

static void mtl__total_part(const mtl__kernels *kernels, const void *pass, size_t begin, size_t end)
{
    const mtl__total_pass *p = (const mtl__total_pass *)pass;
    double total = 0;
    size_t m;
    (void)kernels; (void)begin; (void)end;
    for (m = 0; m < p->count; m++) total += p->loss[m];
    *p->y = (mtl_real)(total / p->divisor);
}

static void mtl__loss_total(mtl_run *run, const mtl__loss_data *d, const double *loss, size_t count)
{
    mtl__total_pass p;
    p.loss = loss;
    p.count = count;
    p.divisor = d->divisor;
    p.y = d->y->value;
    mtl__run_pass(run, mtl__total_part, &p, 1, 1);
}

/* Training needs no probabilities. For an observer they are made where the gradient of the logits will be. */
static void mtl__cross_entropy_show(mtl_run *run, mtl_activation *x, const char *name)
{
    mtl_activation *p = (mtl_activation *)mtl_run_make(run, sizeof *p);
    if (!x->grad) x->grad = mtl__run_reals(run, x->rows, x->stride);
    if (!p || !x->grad || !name || !run->observer) return;
    *p = *x;
    p->name = name;
    p->value = x->grad;
    p->grad = NULL;
    p->constant = 1;
    mtl__softmax_rows(run, x, p);
    mtl__run_show(run, p);
}

/* Class weights as the kernels read them. */
typedef struct mtl__loss_weights { const float *from; mtl_real *to; } mtl__loss_weights;
static void mtl__loss_weights_part(const mtl__kernels *kernels, const void *pass, size_t c, size_t end)
{
    const mtl__loss_weights *p = (const mtl__loss_weights *)pass;
    (void)kernels;
    for (; c < end; c++) p->to[c] = (mtl_real)p->from[c];
}

static void mtl__cross_entropy_forward(mtl_run *run, mtl__loss_data *d, const char *name)
{
    mtl__cross_entropy *pass = &d->pass;
    const size_t rows = d->x->rows;
    mtl__loss_weights weights;
    mtl_arena_mark mark;
    pass->classes = d->x->width;
    pass->x = d->x->value;
    pass->x_stride = d->x->stride;
    pass->items = d->items;
    weights.from = d->class_weights;
    pass->w = weights.to = weights.from ? mtl__run_reals(run, 1, pass->classes) : NULL;
    if (pass->w) mtl__run_values(run, mtl__loss_weights_part, &weights, pass->classes, 1);
    pass->smoothing = d->smoothing;
    pass->saved = mtl__run_reals(run, rows, 3);
    mtl__cross_entropy_show(run, d->x, name);
    mark = mtl_arena_save(run->arena);
    pass->loss = (double *)mtl_run_push(run, rows * sizeof *pass->loss);
    pass->q = d->target->distribution;
    pass->labels = pass->q ? NULL : d->target->labels;
    mtl__run_rows(run, mtl__cross_entropy_part, pass, sizeof *pass, rows, 0);
    mtl__loss_total(run, d, pass->loss, rows);
    mtl_arena_release(run->arena, mark);
}

/* ---- targets that are numbers: summed over items and width --------------------------------------------- */

/* Element loss of an output x against y and its slope. With e = x - y: mse e^2; mae |e|; huber e^2/2 inside
   delta, delta(|e| - delta/2) outside (Huber 1964). bce, of a logit and 0 or 1, with p = 1 / (1 + exp -x):
   -y log p - (1 - y) log(1 - p) = max(x, 0) - x y + log(1 + exp -|x|), slope p - y. */
static mtl_real mtl__number_loss(const mtl__loss_data *d, mtl_real x, mtl_real y, mtl_real *slope)
{
    const mtl_real e = x - y, size = e < 0 ? -e : e;
    const mtl_real sign = e > 0 ? (mtl_real)1 : e < 0 ? (mtl_real)-1 : (mtl_real)0;
    double fall;
    switch (d->loss) {
    case MTL_LOSS_MAE:
        *slope = sign;
        return size;
    case MTL_LOSS_HUBER:
        *slope = size < d->delta ? e : d->delta * sign;
        return size < d->delta ? e * e / 2 : d->delta * (size - d->delta / 2);
    case MTL_LOSS_BCE:
        fall = exp(x < 0 ? (double)x : -(double)x);
        *slope = (mtl_real)((x < 0 ? fall : 1) / (1 + fall) - (double)y);
        return (mtl_real)((x < 0 ? 0 : (double)x) - (double)x * (double)y + log1p(fall));
    default:
        *slope = 2 * e;
        return e * e;
    }
}

/* The loss of row m, column j; numbers are compared in standardised units. */
static mtl_real mtl__real_loss(const mtl__loss_data *d, size_t m, size_t j, mtl_real *slope)
{
    const mtl_real x = d->x->value[m * d->x->stride + j], *y = d->target->values;
    const size_t width = d->of_output ? d->part->width : d->x->width, k = d->of_output ? j % width : j;
    const mtl_real target = mtl__scaled(d->scaling, k, y[(size_t)d->items[m] * width + k]);
    return d->of_output ? d->of_output(d->part, j, x, target, slope) : mtl__number_loss(d, x, target, slope);
}

/* Forward: the losses, one by one. Backward, which has a dx: their slopes times the gradient of L. */
static void mtl__real_loss_part(const mtl__kernels *kernels, const void *pass, size_t m, size_t end)
{
    const mtl__loss_data *d = (const mtl__loss_data *)pass;
    const mtl_real factor = d->pass.dx ? (mtl_real)((double)d->y->grad[0] / d->divisor) : 0;
    const size_t width = d->x->width;
    size_t j;
    (void)kernels;
    for (; m < end; m++)
        for (j = 0; j < width; j++) {
            mtl_real slope, loss = mtl__real_loss(d, m, j, &slope);
            mtl_real *dx = d->pass.dx ? d->pass.dx + m * d->x->stride + j : NULL;
            if (dx) *dx = (d->pass.accumulate ? *dx : 0) + factor * slope;
            else d->pass.loss[m * width + j] = (double)loss;
        }
}

static void mtl__real_loss_backward(mtl_run *run, void *data)
{
    mtl__loss_data *d = (mtl__loss_data *)data;
    d->pass.dx = mtl_run_grad(run, d->x, &d->pass.accumulate);
    if (d->pass.dx) mtl__run_values(run, mtl__real_loss_part, d, d->x->rows, d->x->width);
}

static void mtl__real_loss_forward(mtl_run *run, mtl__loss_data *d)
{
    const size_t elements = d->x->rows * d->x->width;
    const mtl_arena_mark mark = mtl_arena_save(run->arena);
    d->pass.loss = (double *)mtl_run_push(run, elements * sizeof *d->pass.loss);
    mtl__run_values(run, mtl__real_loss_part, d, d->x->rows, d->x->width);
    mtl__loss_total(run, d, d->pass.loss, elements);
    mtl_arena_release(run->arena, mark);
}

/* The loss of x against the targets in `how` (what is not set there is filled in here): a 1 x 1 activation.
   name: of the probabilities. */
static mtl_activation *mtl__loss_forward(mtl_run *run, const mtl__loss_data *how, mtl_activation *x,
                                         const char *name)
{
    mtl__loss_data *d = (mtl__loss_data *)mtl_run_make(run, sizeof *d);
    mtl_activation *y = mtl__run_activation(run, NULL, NULL, 1, 1);
    if (!x || !d || !y) return NULL;
    *d = *how;
    d->x = x;
    d->y = y;
    if (d->loss == MTL_LOSS_CROSS_ENTROPY) mtl__cross_entropy_forward(run, d, name);
    else mtl__real_loss_forward(run, d);
    mtl_run_record(run, y, d->loss == MTL_LOSS_CROSS_ENTROPY
                   ? mtl__cross_entropy_backward : mtl__real_loss_backward, d);
    return mtl__failed(run->error) ? NULL : y;
}

/* ---- penalties: losses of tensors and of rows ----------------------------------------------------------
   distance   L = sum_i ||a_i - b_i||^2                  da_i = 2 g (a_i - b_i) = -db_i
   crossing   L = ||M||_F^2 with M = A^T B / N           dA = 2 g / N B M^T        dB = 2 g / N A M */
typedef struct mtl__distance {
    const mtl_tensor *const *a, *const *b;  /* [count] */
    size_t count;
    mtl_activation *y;
} mtl__distance;

/* What one of two tensors gets of their distance. */
static void mtl__distance_grad(mtl_run *run, const mtl_tensor *t, const mtl_tensor *other,
                               const mtl_activation *y)
{
    int add;
    size_t j;
    mtl_real *grad = t->frozen ? NULL : mtl_run_tensor_grad(run, t, &add);
    for (j = 0; grad && !mtl__dry(run) && j < t->count; j++)
        grad[j] = (add ? grad[j] : 0) + 2 * y->grad[0] * (t->value[j] - other->value[j]);
}

static void mtl__distance_backward(mtl_run *run, void *data)
{
    const mtl__distance *d = (const mtl__distance *)data;
    size_t i;
    for (i = 0; i < d->count; i++) {
        mtl__distance_grad(run, d->a[i], d->b[i], d->y);
        mtl__distance_grad(run, d->b[i], d->a[i], d->y);
    }
}

static void mtl__distance_fresh(const mtl_run *run, const mtl_tensor *t)
{
    if (t->role == MTL_TENSOR_EMBEDDING && run->gradients)
        mtl__parameters_fresh(run->gradients->set, t, NULL, 0);
}

static mtl_activation *mtl__distance_forward(mtl_run *run, const mtl_tensor *const *a,
                                             const mtl_tensor *const *b, size_t count)
{
    mtl__distance *d = (mtl__distance *)mtl_run_make(run, sizeof *d);
    mtl_activation *y = mtl_run_activation(run, NULL, 1, 1);
    double total = 0;
    size_t i, j;
    if (!d || !y) return NULL;
    d->a = a;
    d->b = b;
    d->count = count;
    d->y = y;
    for (i = 0; !mtl__dry(run) && i < count; i++) {
        mtl__distance_fresh(run, a[i]);
        mtl__distance_fresh(run, b[i]);
        for (j = 0; j < a[i]->count; j++) {
            const double e = (double)a[i]->value[j] - (double)b[i]->value[j];
            total += e * e;
        }
        y->value[0] = (mtl_real)total;
    }
    mtl_run_record(run, y, mtl__distance_backward, d);
    return y;
}

typedef struct mtl__crossing {
    mtl_activation *a, *b, *y;
    mtl_real *m;                            /* [a's width][b's width] */
    mtl_real factor;                        /* 1 / N; while backward runs 2 g / N */
    mtl_real *grad;                         /* while backward runs: a's, then b's */
    int add;
} mtl__crossing;

/* Rows [first, end) of M. */
static void mtl__crossing_part(const mtl__kernels *kernels, const void *pass, size_t first, size_t end)
{
    const mtl__crossing *d = (const mtl__crossing *)pass;
    const size_t width = d->b->width;
    size_t n, i;
    memset(d->m + first * width, 0, (end - first) * width * sizeof *d->m);
    for (n = 0; n < d->a->rows; n++)
        for (i = first; i < end; i++)
            kernels->add_scaled(width, d->factor * d->a->value[n * d->a->stride + i],
                                d->b->value + n * d->b->stride, d->m + i * width);
}

static void mtl__crossing_back_a(const mtl__kernels *kernels, const void *pass, size_t n, size_t end)
{
    const mtl__crossing *d = (const mtl__crossing *)pass;
    const size_t width = d->b->width;
    size_t i;
    (void)kernels;
    for (; n < end; n++) {
        mtl_real *to = mtl__row_open(d->grad, d->a->stride, d->a->width, n, d->add);
        for (i = 0; i < d->a->width; i++)
            to[i] += d->factor * mtl__row_dot(d->b->value + n * d->b->stride, d->m + i * width, width);
    }
}

static void mtl__crossing_back_b(const mtl__kernels *kernels, const void *pass, size_t n, size_t end)
{
    const mtl__crossing *d = (const mtl__crossing *)pass;
    const size_t width = d->b->width;
    size_t i;
    for (; n < end; n++) {
        mtl_real *to = mtl__row_open(d->grad, d->b->stride, width, n, d->add);
        for (i = 0; i < d->a->width; i++)
            kernels->add_scaled(width, d->factor * d->a->value[n * d->a->stride + i], d->m + i * width, to);
    }
}

static void mtl__crossing_backward(mtl_run *run, void *data)
{
    mtl__crossing pass = *(const mtl__crossing *)data;
    const size_t work = pass.a->width * pass.b->width;
    if (!mtl__dry(run)) pass.factor *= 2 * pass.y->grad[0];
    pass.grad = mtl_run_grad(run, pass.a, &pass.add);
    if (pass.grad) mtl__run_values(run, mtl__crossing_back_a, &pass, pass.a->rows, work);
    pass.grad = mtl_run_grad(run, pass.b, &pass.add);
    if (pass.grad) mtl__run_values(run, mtl__crossing_back_b, &pass, pass.b->rows, work);
}

/* The rows of both are those of one batch. */
static mtl_activation *mtl__crossing_forward(mtl_run *run, mtl_activation *a, mtl_activation *b)
{
    mtl__crossing *d = (mtl__crossing *)mtl_run_make(run, sizeof *d);
    mtl_activation *y = mtl_run_activation(run, NULL, 1, 1);
    size_t i;
    double total = 0;
    if (!a || !b || !d || !y) return NULL;
    d->a = a;
    d->b = b;
    d->y = y;
    d->m = mtl__run_reals(run, a->width, b->width);
    d->factor = 1 / (mtl_real)a->rows;
    if (mtl__failed(run->error)) return NULL;
    mtl__run_values(run, mtl__crossing_part, d, a->width, b->width);
    for (i = 0; !mtl__dry(run) && i < a->width * b->width; i++) total += (double)d->m[i] * (double)d->m[i];
    if (!mtl__dry(run)) y->value[0] = (mtl_real)total;
    mtl_run_record(run, y, mtl__crossing_backward, d);
    return y;
}

/* ---- which items are labelled -------------------------------------------------------------------------- */

/* 1 when `item` has a target of width numbers or classes. */
static int mtl__target_is_given(const mtl_target *t, size_t item, size_t width)
{
    size_t j;
    if (!t) return 0;
    if (t->labels) return t->labels[item] >= 0;
    if (t->distribution) return !mtl__is_nan(t->distribution[item * width]);
    if (!t->values) return 0;
    for (j = 0; j < width; j++)
        if (mtl__is_nan(t->values[item * width + j])) return 0;
    return 1;
}

/* ===========================================================================================================
   18 >>metrics    accuracy, span F1, label F1, RMSE, MAE, R2: counted as items stream by, nothing allocated
   ===========================================================================================================
   A metric is a handful of counts that grow with every batch; mtl__metric_finish_.. turns them into scores.
   Labels that are missing count nowhere. Gold spans are those of the tags as written, whether the model has a
   class for them or not. Spans are counted as the CoNLL evaluation script (conlleval, Tjong Kim Sang 2004)
   counts:
       precision = right / predicted      recall = right / gold      F1 = 2 P R / (P + R)      0 when nothing
                                                                     is there
       right: same begin, same end, same type
       R2 = 1 - sum (y - p)^2 / sum (y - mean)^2, over all numbers of all items pooled, so a vector target has
       one mean
       sets of labels: F1 of all labels pooled (micro), and the mean of each class's F1 (macro)
   -------------------------------------------------------------------------------------------------------- */

/* ---- spans --------------------------------------------------------------------------------------------- */

/* The span that is open at some step of a sequence. */
typedef struct mtl__span_track { int open; mtl_span span; } mtl__span_track;

/* Reads the tag of step t; NULL stands for any tag outside of spans, and for the end of the sequence. Returns
   1 when this ends a span, which is then in *ended. A tag continues a span only as I- of the same type; any
   other B- or I- opens one. */
static int mtl__span_next(mtl__span_track *track, const char *tag, size_t t, mtl_span *ended)
{
    int inside = tag && (tag[0] == 'B' || tag[0] == 'I') && (tag[1] == '-' || tag[1] == '\0');
    const char *type = inside ? tag + (tag[1] == '-' ? 2 : 1) : NULL;
    int ends;

    if (inside && track->open && tag[0] == 'I' && strcmp(type, track->span.type) == 0) return 0;
    ends = track->open;
    if (ends) {
        *ended = track->span;
        ended->end = t;
    }
    track->open = inside;
    track->span.begin = t;
    track->span.type = type;
    return ends;
}

MTL_DEF size_t mtl_spans(const char *const *tags, size_t steps, mtl_span *spans, size_t capacity)
{
    mtl__span_track track = { 0, { 0, 0, NULL } };
    mtl_span span;
    size_t count = 0, t;

    if (!tags) return 0;
    for (t = 0; t <= steps; t++) {
        if (!mtl__span_next(&track, t < steps ? tags[t] : NULL, t, &span)) continue;
        if (spans && count < capacity) spans[count] = span;
        count++;
    }
    return count;
}

MTL_DEF int mtl_labels_are_spans(const char *const *labels, size_t count)
{
    int begins = 0;
    size_t i;

    if (!labels) return 0;
    for (i = 0; i < count; i++) {
        const char *label = labels[i];
        if (!label) return 0;
        if (strcmp(label, "O") == 0) continue;
        if ((label[0] != 'B' && label[0] != 'I') || label[1] != '-' || !label[2]) return 0;
        if (label[0] == 'B') begins = 1;
    }
    return begins;
}

/* ---- counting ------------------------------------------------------------------------------------------ */

/* Everything that is counted for one task of classes or numbers. Zero it, set spans or width, add, finish. */
typedef struct mtl__metric {
    int spans;                              /* 1: labels are a span scheme */
    size_t items, correct;
    double loss_sum, loss_weight;           /* mean loss = sum / weight; the caller adds to both */
    size_t gold_spans, predicted_spans, right_spans;
    double error_squares, error_abs;
    double target_sum, target_squares;      /* squares: about the mean of the numbers so far (Welford 1962) */
    size_t numbers;                         /* real tasks: numbers seen */
    size_t width;                           /* real tasks: numbers of an item; 0: 1 */
} mtl__metric;

static void mtl__metric_class(mtl__metric *m, const int *gold, const int *predicted, size_t count)
{
    size_t i;
    for (i = 0; i < count; i++) {
        if (gold[i] == MTL_MISSING) continue;
        m->items++;
        if (gold[i] >= 0 && gold[i] == predicted[i]) m->correct++;
    }
}

/* The tag of a gold label that is not missing. One without a name is an I- of a type that no label has (names
   hold no line breaks), so nothing matches its span. */
static const char *mtl__metric_tag(int label, const char *const *labels, const char *const *unknown)
{
    if (label >= 0) return labels[label];
    return unknown ? unknown[MTL_UNKNOWN_LABEL - label] : "I-\n";
}

/* One sequence. A step without a gold label ends spans on both sides. unknown: as in mtl_target. */
static void mtl__metric_spans(mtl__metric *m, const int *gold, const int *predicted, size_t steps,
                              const char *const *labels, const char *const *unknown)
{
    mtl__span_track gold_track = { 0, { 0, 0, NULL } }, predicted_track = { 0, { 0, 0, NULL } };
    mtl_span right, guess;
    size_t t;

    for (t = 0; t <= steps; t++) {
        const char *gold_tag = NULL, *predicted_tag = NULL;
        int gold_ends, predicted_ends;
        if (t < steps && gold[t] != MTL_MISSING) {
            gold_tag = mtl__metric_tag(gold[t], labels, unknown);
            predicted_tag = predicted[t] < 0 ? NULL : labels[predicted[t]];
        }
        gold_ends = mtl__span_next(&gold_track, gold_tag, t, &right);
        predicted_ends = mtl__span_next(&predicted_track, predicted_tag, t, &guess);
        m->gold_spans += (size_t)gold_ends;
        m->predicted_spans += (size_t)predicted_ends;
        if (gold_ends && predicted_ends && right.begin == guess.begin && strcmp(right.type, guess.type) == 0)
            m->right_spans++;
    }
}

/* One number of a real target. */
static void mtl__metric_number(mtl__metric *m, double target, double error)
{
    if (m->numbers) {
        double n = (double)m->numbers, delta = target - m->target_sum / n;
        m->target_squares += delta * delta * n / (n + 1);
    }
    m->target_sum += target;
    m->error_squares += error * error;
    m->error_abs += error < 0 ? -error : error;
    m->numbers++;
}

/* count: numbers, m->width of them an item. An item with a NaN in its target is missing, as it is in
   training. */
static void mtl__metric_real(mtl__metric *m, const mtl_real *gold, const mtl_real *predicted, size_t count)
{
    size_t i, j, width = m->width ? m->width : 1;
    for (i = 0; i + width <= count; i += width) {
        int missing = 0;
        for (j = i; j < i + width; j++) missing |= mtl__is_nan(gold[j]);
        if (missing) continue;
        m->items++;
        for (j = i; j < i + width; j++) mtl__metric_number(m, (double)gold[j],
                                                           (double)predicted[j] - (double)gold[j]);
    }
}

/* Of one class in sets of labels: items that have it, that were given it, and both. */
typedef struct mtl__metric_label { size_t gold, predicted, right; } mtl__metric_label;

static void mtl__metric_set(mtl__metric_label *labels, size_t classes, const mtl_real *gold,
                            const unsigned char *predicted)
{
    size_t c;
    for (c = 0; c < classes; c++) {
        const int has = gold[c] > 0;
        labels[c].gold += (size_t)has;
        labels[c].predicted += predicted[c];
        labels[c].right += (size_t)(has && predicted[c]);
    }
}

/* ---- scores -------------------------------------------------------------------------------------------- */

static double mtl__metric_ratio(double part, double whole) { return whole > 0 ? part / whole : 0; }

static void mtl__metric_items(const mtl__metric *m, mtl_task_score *score)
{
    memset(score, 0, sizeof *score);
    score->items = m->items;
    score->loss = mtl__metric_ratio(m->loss_sum, m->loss_weight);
}

static void mtl__metric_finish_class(const mtl__metric *m, mtl_task_score *score)
{
    double sum;
    mtl__metric_items(m, score);
    score->accuracy = mtl__metric_ratio((double)m->correct, (double)m->items);
    score->score = score->accuracy;
    if (!m->spans) return;
    score->span_precision = mtl__metric_ratio((double)m->right_spans, (double)m->predicted_spans);
    score->span_recall = mtl__metric_ratio((double)m->right_spans, (double)m->gold_spans);
    sum = score->span_precision + score->span_recall;
    score->span_f1 = mtl__metric_ratio(2 * score->span_precision * score->span_recall, sum);
    score->score = score->span_f1;
}

/* 2 P R / (P + R) */
static double mtl__metric_f1(const mtl__metric_label *l)
{
    return mtl__metric_ratio(2 * (double)l->right, (double)l->gold + (double)l->predicted);
}

/* strange: labels that are no class, all together; unknown: how many different ones there are. */
static void mtl__metric_finish_set(const mtl__metric *m, const mtl__metric_label *labels, size_t classes,
                                   const mtl__metric_label *strange, size_t unknown, mtl_task_score *score)
{
    mtl__metric_label all = *strange;
    double sum = 0;
    size_t c;
    mtl__metric_items(m, score);
    for (c = 0; c < classes; c++) {
        all.gold += labels[c].gold;
        all.predicted += labels[c].predicted;
        all.right += labels[c].right;
        sum += mtl__metric_f1(&labels[c]);
    }
    score->micro_f1 = score->score = mtl__metric_f1(&all);
    score->macro_f1 = mtl__metric_ratio(sum, (double)(classes + unknown));
}

/* Targets that are all the same have no variance to explain: R2 is then 1 without any error, else 0. */
static void mtl__metric_finish_real(const mtl__metric *m, mtl_task_score *score)
{
    double n = (double)m->numbers;
    mtl__metric_items(m, score);
    if (!m->numbers) return;
    score->rmse = sqrt(m->error_squares / n);
    score->mae = m->error_abs / n;
    if (m->target_squares > 0) score->r2 = 1 - m->error_squares / m->target_squares;
    else score->r2 = m->error_squares > 0 ? 0 : 1;
    score->score = score->r2 > 0 ? score->r2 : 0;
}

/* ===========================================================================================================
   19 >>nodes      inputs, columns, mixes, penalties: tables of their kinds, the one list that passes walk
   ===========================================================================================================
   A node is a part of the model that has rows for others to read: an input, a column, or the head of a task.
   Nodes stand in one list, each behind its sources: repeatedly the first of the desc's inputs, columns and
   tasks whose sources are all placed is next. What a column or a head reads is a *tap*: a mix over nodes
   before it, what the mix's gate reads, and whether a gradient goes back into each of them.

       rows      inputs and columns have a row a step, heads a row a step or a sequence, as their task says
       STEP      a tap has a row a step when a column or a task of steps reads it, or when one of its sources
                 has: what has a row a sequence is spread over the steps; a task with one target a sequence
                 then pools the steps
       stopped   a source under which gradients end is the same values as a constant
       parts     "TASK" is a head's output, "TASK.probabilities" its distribution. A head that a tap reads
                 runs on all rows, others on labelled rows alone (>>tasks)

   A penalty is a loss of tensors or of nodes' rows, after all heads: mtl__penalty_forward.
   The passes know inputs, columns, heads and penalties. Kinds are known in this room (and >>tasks) only.
   -------------------------------------------------------------------------------------------------------- */

/* ---- mixes --------------------------------------------------------------------------------------------- */

/* `by` says what a gate reads; where there is none it would be lost. */
static mtl_status mtl__mix_without_gate(const mtl_mix *mix, const char *what, mtl_error *err)
{
    char field[64];
    if (!mix->by_width || mtl__failed(err)) return mtl__status(err);
    mtl__print(field, sizeof field, "%s.by", what);
    return mtl__fail(err, MTL_ERROR_FIELD, field, -1, "%s: only mixes with a gate (gate, experts) read it",
                     field);
}

static mtl_status mtl__concat_build(mtl_mix *mix, mtl_parameters *set, const char *what, mtl_error *err)
{
    size_t i;
    (void)set;
    for (i = 0; i < mix->count; i++) mix->width += mix->widths[i];
    return mtl__mix_without_gate(mix, what, err);
}

static mtl_activation *mtl__concat_mix(mtl_run *run, const mtl_mix *mix, mtl_activation *const *sources,
                                       mtl_activation *by)
{
    (void)by;
    return mtl__concat_forward(run, sources, mix->count, "");
}

static mtl_activation *mtl__reversal_mix(mtl_run *run, const mtl_mix *mix, mtl_activation *const *sources,
                                         mtl_activation *by)
{
    return mtl__reversal_forward(run, mix->desc->reversal, mtl__concat_mix(run, mix, sources, by));
}

/* What the kinds below are made of: a gate's product, or vectors of factors (biases in that decay leaves them
   alone). */
typedef struct mtl__mixed {
    mtl_dense *gate;
    const char *name;                       /* of what the gate makes */
    mtl_tensor *weight, *scale;
} mtl__mixed;

/* Sources of equal width, whose width the mix has. */
static mtl__mixed *mtl__mixed_build(mtl_mix *mix, mtl_parameters *set, const char *what, mtl_error *err)
{
    size_t i;
    for (i = 1; i < mix->count && !mtl__failed(err); i++)
        if (mix->widths[i] != mix->widths[0])
            mtl__fail(err, MTL_ERROR_FIELD, what, (long long)i, "%s: this kind of mix takes sources of equal "
                      "width; the first one has %z columns, number %z has %z", what, mix->widths[0], i + 1,
                      mix->widths[i]);
    mix->width = mix->widths[0];
    mix->data = mtl__arena_make(set->arena, 1, sizeof(mtl__mixed), "a mix", err);
    return (mtl__mixed *)mix->data;
}

static mtl_tensor *mtl__mixed_vector(const mtl_mix *mix, const char *name, size_t count, float initial,
                                     mtl_parameters *set, mtl_error *err)
{
    char text[160];
    mtl_tensor *t = mtl_parameters_add(set, mtl__print(text, sizeof text, "%s.%s", mix->owner, name), count,
                                       0, MTL_TENSOR_BIAS, err);
    if (!t) return NULL;
    t->init = MTL_INIT_CONSTANT;
    t->initial = initial;
    return t;
}

static mtl_status mtl__sum_build(mtl_mix *mix, mtl_parameters *set, const char *what, mtl_error *err)
{
    mtl__mixed_build(mix, set, what, err);
    return mtl__mix_without_gate(mix, what, err);
}

static mtl_activation *mtl__sum_mix(mtl_run *run, const mtl_mix *mix, mtl_activation *const *sources,
                                    mtl_activation *by)
{
    (void)by;
    return mix->count == 1 ? sources[0] : mtl__blend_forward(run, sources, mix->count, NULL, NULL);
}

/* W by + b with `outputs` rows, under OWNER.name. */
static mtl_status mtl__mixed_gate(mtl_mix *mix, const char *name, size_t outputs, mtl_parameters *set,
                                  const char *what, mtl_error *err)
{
    mtl__mixed *mixed = mtl__mixed_build(mix, set, what, err);
    const size_t inputs = mix->by_width ? mix->by_width : mix->count * mix->width;
    char text[160];
    if (mtl__failed(err)) return mtl__status(err);
    mtl__print(text, sizeof text, "%s.%s", mix->owner, name);
    mixed->name = mtl__arena_text(set->arena, text, err);
    mixed->gate = mtl_dense_add(set, text, inputs, outputs, 0, err);
    return mtl__status(err);
}

static mtl_status mtl__gate_build(mtl_mix *mix, mtl_parameters *set, const char *what, mtl_error *err)
{
    if (mix->count != 2)
        return mtl__fail(err, MTL_ERROR_FIELD, what, (long long)mix->count,
                         "%s: a gate needs two sources; `from` names %z", what, mix->count);
    return mtl__mixed_gate(mix, "gate", mix->widths[0], set, what, err);
}

static mtl_activation *mtl__gate_mix(mtl_run *run, const mtl_mix *mix, mtl_activation *const *sources,
                                     mtl_activation *by)
{
    const mtl__mixed *mixed = (const mtl__mixed *)mix->data;
    mtl_activation *z = mtl_dense_forward(run, mixed->gate, by
                                          ? by : mtl__concat_forward(run, sources, 2, ""), NULL);
    return mtl__gate_forward(run, mtl__activate_forward(run, MTL_ACTIVATION_SIGMOID, z, mixed->name),
                             sources[0], sources[1]);
}

static mtl_status mtl__experts_build(mtl_mix *mix, mtl_parameters *set, const char *what, mtl_error *err)
{
    return mtl__mixed_gate(mix, "gates", mix->count, set, what, err);
}

static mtl_activation *mtl__experts_mix(mtl_run *run, const mtl_mix *mix, mtl_activation *const *sources,
                                        mtl_activation *by)
{
    const mtl__mixed *mixed = (const mtl__mixed *)mix->data;
    const int pooled = mix->desc->per_sequence && mix->level == MTL_LEVEL_STEP;
    if (!by) by = mtl__concat_forward(run, sources, mix->count, "");
    if (pooled) by = mtl__pool_forward(run, MTL_POOL_MEAN, by, NULL, 0, NULL);
    by = mtl__softmax_forward(run, mtl_dense_forward(run, mixed->gate, by, NULL), mixed->name);
    return mtl__blend_forward(run, sources, mix->count, by, pooled
                              ? sources[0]->space->packing->sequence : NULL);
}

static mtl_status mtl__stitch_build(mtl_mix *mix, mtl_parameters *set, const char *what, mtl_error *err)
{
    mtl__mixed *mixed = mtl__mixed_build(mix, set, what, err);
    const float share = mix->desc->share, rest = mix->count > 1 ? (1 - share) / (float)(mix->count - 1) : 0;
    if (mixed) mixed->weight = mtl__mixed_vector(mix, "stitch.weight", mix->count, rest, set, err);
    if (mixed && mixed->weight) {
        mtl_init_rows *first = &mixed->weight->init_rows;
        first->count = 1;
        first->addend = share;              /* and factor 0 */
    }
    return mtl__mix_without_gate(mix, what, err);
}

static mtl_activation *mtl__stitch_mix(mtl_run *run, const mtl_mix *mix, mtl_activation *const *sources,
                                       mtl_activation *by)
{
    (void)by;
    return mtl__blend_forward(run, sources, mix->count,
                              mtl__vector_forward(run, ((const mtl__mixed *)mix->data)->weight), NULL);
}

static mtl_status mtl__levels_build(mtl_mix *mix, mtl_parameters *set, const char *what, mtl_error *err)
{
    mtl__mixed *mixed = mtl__mixed_build(mix, set, what, err);
    if (mixed) mixed->weight = mtl__mixed_vector(mix, "levels.weight", mix->count, 0, set, err);
    if (mixed) mixed->scale = mtl__mixed_vector(mix, "levels.scale", 1, 1, set, err);
    return mtl__mix_without_gate(mix, what, err);
}

/* The scale is put into the factors, which are few. */
static mtl_activation *mtl__levels_mix(mtl_run *run, const mtl_mix *mix, mtl_activation *const *sources,
                                       mtl_activation *by)
{
    const mtl__mixed *mixed = (const mtl__mixed *)mix->data;
    mtl_activation *s = mtl__softmax_forward(run, mtl__vector_forward(run, mixed->weight), NULL);
    (void)by;
    s = mtl__blend_forward(run, &s, 1, mtl__vector_forward(run, mixed->scale), NULL);
    return mtl__blend_forward(run, sources, mix->count, s, NULL);
}

static const mtl_mix_kind mtl__mix_kinds[] = {
    { { MTL_DESC_MIX, "concat", NULL, 0, 0 }, 1, mtl__concat_build, mtl__concat_mix },
    { { MTL_DESC_MIX, "sum", NULL, 0, 0 }, 0, mtl__sum_build, mtl__sum_mix },
    { { MTL_DESC_MIX, "gate", NULL, 0, 0 }, 0, mtl__gate_build, mtl__gate_mix },
    { { MTL_DESC_MIX, "experts", NULL, 0, 0 }, 0, mtl__experts_build, mtl__experts_mix },
    { { MTL_DESC_MIX, "cross-stitch", NULL, 0, 0 }, 0, mtl__stitch_build, mtl__stitch_mix },
    { { MTL_DESC_MIX, "levels", NULL, 0, 0 }, 0, mtl__levels_build, mtl__levels_mix },
    { { MTL_DESC_MIX, "reversal", NULL, 0, 0 }, 1, mtl__concat_build, mtl__reversal_mix }
};

/* ---- inputs -------------------------------------------------------------------------------------------- */

static mtl_status mtl__input_check(mtl_input_desc *d, const char *what, mtl_error *err)
{
    if ((d->vocabulary > 0) != (d->features > 0)) return mtl__status(err);
    return mtl__fail(err, MTL_ERROR_FIELD, what, -1, "%s (\"%s\") needs either a vocabulary or features",
                     what, d->name);
}

static mtl_status mtl__embedding_build(mtl_input_part *part, mtl_parameters *set, mtl_error *err)
{
    const mtl_input_desc *d = part->desc;
    mtl_tensor *weight;
    char text[160];
    part->width = (size_t)d->width;
    part->data = weight = mtl_parameters_add(set, mtl__print(text, sizeof text, "%s.weight", d->name),
                                             (size_t)d->vocabulary, part->width, MTL_TENSOR_EMBEDDING, err);
    if (weight) weight->init_rows.count = (size_t)d->padding_zero;  /* times 0: padding stands for nothing */
    return mtl__status(err);
}

static mtl_status mtl__embedding_verify(const mtl_input_part *part, const mtl_input *input, size_t row,
                                        size_t sequence, int step, mtl_error *err)
{
    if (input->ids[row] >= 0 && input->ids[row] < part->desc->vocabulary) return MTL_OK;
    return mtl__fail(err, MTL_ERROR_RANGE, part->desc->name, (long long)row,
                     "input %s: id %d of sequence %z, step %d is not in 0 .. %d", part->desc->name,
                     input->ids[row], sequence, step, part->desc->vocabulary - 1);
}

static mtl_activation *mtl__embedding_input(mtl_run *run, const mtl_input_part *part, const mtl_input *input)
{
    const mtl_input_desc *d = part->desc;
    return mtl__embedding_forward(run, &run->packing->space[MTL_LEVEL_STEP], (const mtl_tensor *)part->data,
                                  input->ids, d->scale, d->padding_zero, d->name);
}

static mtl_status mtl__features_build(mtl_input_part *part, mtl_parameters *set, mtl_error *err)
{
    part->width = (size_t)part->desc->features;
    part->scaling = mtl_scaling_add(set, part->desc->name, part->width, err);
    return mtl__status(err);
}

static mtl_status mtl__features_verify(const mtl_input_part *part, const mtl_input *input, size_t row,
                                       size_t sequence, int step, mtl_error *err)
{
    size_t j;
    for (j = 0; j < part->width; j++)
        if (!mtl__is_finite(input->rows[row * part->width + j]))
            return mtl__fail(err, MTL_ERROR_NUMBER, part->desc->name, (long long)row,
                             "input %s: column %z of sequence %z, step %d is not a finite number",
                             part->desc->name, j, sequence, step);
    return MTL_OK;
}

static mtl_activation *mtl__features_input(mtl_run *run, const mtl_input_part *part, const mtl_input *input)
{
    return mtl__features_forward(run, &run->packing->space[MTL_LEVEL_STEP], input->rows, part->width,
                                 part->scaling, part->desc->name);
}

static const mtl_input_kind mtl__input_kinds[] = {
    { { MTL_DESC_INPUT, "embedding", NULL, 0, 0 }, 0, mtl__input_check, mtl__embedding_build,
      mtl__embedding_verify, mtl__embedding_input },
    { { MTL_DESC_INPUT, "features", NULL, 0, 0 }, 1, mtl__input_check, mtl__features_build,
      mtl__features_verify, mtl__features_input }
};

/* The row of a desc: by default the one that its members speak of. */
static const mtl_input_kind *mtl__input_kind(const mtl_input_desc *d)
{
    const int kind = d->kind != MTL_INPUT_DEFAULT ? d->kind : d->features > 0 ? MTL_INPUT_FEATURES
                                                                             : MTL_INPUT_EMBEDDING;
    return d->own ? d->own : &mtl__input_kinds[kind - MTL_INPUT_EMBEDDING];
}

/* ---- columns: a stack of recurrent layers -------------------------------------------------------------- */

/* The cells' layers: the column's name, then ".layer0" and so on for those below the last. */
typedef struct mtl__cells {
    const mtl_cell **cells;                 /* [layers][directions] */
    const char **names;                     /* [layers] of the layers' outputs; the last one is the
                                               column's */
} mtl__cells;

#define MTL__CELL_MEMBER(type, name, preset, low, high, names, help) cell.name = desc->name;
static mtl_cell_desc mtl__column_cell(const mtl_column_desc *desc)
{
    mtl_cell_desc cell;
    MTL_CELL_FIELDS(MTL__CELL_MEMBER)
    return cell;
}

static MTL__RARE mtl_status mtl__cells_build(mtl_column_part *part, mtl_parameters *set, mtl_error *err)
{
    const mtl_column_desc *d = part->desc;
    const mtl_cell_desc cell = mtl__column_cell(d);
    const size_t layers = (size_t)d->layers, directions = d->bidirectional ? 2 : 1;
    mtl_arena *arena = set->arena;
    mtl__cells *column = (mtl__cells *)mtl__arena_make(arena, 1, sizeof *column, "a column", err);
    size_t *units = (size_t *)mtl__arena_make(arena, layers * directions, sizeof *units, "a column", err);
    size_t l, k, inputs = part->inputs;
    char text[160];
    if (!column || !units) return mtl__status(err);
    column->cells =
        (const mtl_cell **)mtl__arena_make(arena, layers * directions, sizeof(mtl_cell *), "a column", err);
    column->names = (const char **)mtl__arena_make(arena, layers, sizeof(char *), "a column", err);
    for (l = 0; l < layers && !mtl__failed(err); l++) {
        mtl__print(text, sizeof text, "%s.", d->name);
        for (k = 0; k < directions; k++) {
            column->cells[l * directions + k] = mtl_cell_add(set, text, &cell, inputs, (int)l, (int)k,
                                                              err);
            units[l * directions + k] = (size_t)d->hidden;
        }
        column->names[l] = l + 1 == layers ? d->name
            : mtl__arena_text(arena, mtl__print(text, sizeof text, "%s.layer%z", d->name, l), err);
        inputs = (size_t)d->hidden * directions;
    }
    part->data = column;
    part->width = inputs;
    part->directions = directions;
    part->states = layers * directions;
    part->state_units = units;
    return mtl__status(err);
}

/* What a row's dropout depends on. */
static const int *mtl__cells_dropout_key(const mtl_column_pass *p)
{
    return p->part->desc->dropout_per_sequence ? mtl__space_sequences(p->x->space)
                                               : mtl__space_items(p->x->space);
}

/* Dropout in a column that may run beside others: its streams are numbered as if it ran alone. */
static mtl_activation *mtl__cells_dropout(mtl_run *run, mtl_column_pass *p, mtl_real rate, mtl_activation *x)
{
    unsigned long long *stream, next;
    run->component = p->component;
    stream = mtl__run_stream(run);
    next = *stream;
    *stream = p->stream;
    if (x) x = mtl__dropout_layer(run, rate, mtl__cells_dropout_key(p), x, "");
    p->stream = *stream;
    *stream = next;
    return x;
}

/* Sets aside the streams that a column's dropout will take. */
static void mtl__cells_begin(mtl_run *run, mtl_column_pass *p)
{
    const mtl_column_desc *d = p->part->desc;
    unsigned long long *stream;
    run->component = p->component;
    stream = mtl__run_stream(run);
    p->stream = *stream;
    if (run->training)                      /* a stream for each call with a rate: mtl__dropout_layer */
        *stream += (d->dropout_between > 0 ? (unsigned)d->layers - 1 : 0) + (d->dropout > 0);
    p->y = p->x;
}

/* Layer number l of a column: from p->y into a new p->y. */
static mtl__layer_data *mtl__cells_layer(mtl_run *run, mtl_column_pass *p, size_t l)
{
    const mtl__cells *column = (const mtl__cells *)p->part->data;
    const size_t first = l * p->part->directions;
    mtl_activation *x = l ? mtl__cells_dropout(run, p, p->part->desc->dropout_between, p->y) : p->x;
    p->y = x ? mtl__run_beside(run, NULL, x, p->part->width) : NULL;
    return mtl__layer_make(run, column->cells + first, p->part->directions, x, p->y,
                           p->initial ? p->initial + first : NULL);
}

/* dx of a lowest layer goes to rows that others may read as well: all but the last column, which is the first
   in backward, leave it for later. From the last on, since several may come after the same record. */
static void mtl__cells_leave_inputs(mtl_run *run, const mtl_column_pass *columns, const mtl__layers *layers)
{
    size_t k;
    for (k = layers->count - 1; k-- > 0 && run->tape;) {
        layers->of[k]->later = !columns[k].x->constant;
        if (layers->of[k]->later)
            mtl__run_record_after(run, columns[k].after, mtl__layer_later_backward, layers->of[k]);
    }
}

/* Layer number l of all columns that have one. */
static void mtl__cells_layers(mtl_run *run, mtl_column_pass *columns, size_t count, size_t l)
{
    mtl__layers *layers = mtl__layers_make(run, count);
    mtl_cell_state **final = (mtl_cell_state **)mtl_run_make(run, count * sizeof *final);
    size_t k, n = 0;
    for (k = 0; layers && final && k < count; k++) {
        mtl_column_pass *p = &columns[k];
        if (l >= (size_t)p->part->desc->layers) continue;
        final[n] = p->final ? p->final + l * p->part->directions : NULL;
        layers->of[n++] = mtl__cells_layer(run, p, l);
    }
    if (!n || mtl__failed(run->error)) return;
    layers->count = n;
    if (!l) mtl__cells_leave_inputs(run, columns, layers);
    mtl__layers_forward(run, layers, final);
    for (k = 0; k < count; k++) {
        const mtl__cells *column = (const mtl__cells *)columns[k].part->data;
        if (l < (size_t)columns[k].part->desc->layers)
            columns[k].y = mtl__moved(run, columns[k].y, column->names[l]);
    }
}

/* Level by level, since a layer reads the one below it. */
static void mtl__cells_forward(mtl_run *run, mtl_column_pass *columns, size_t count)
{
    size_t k, l, layers = 0;
    for (k = 0; k < count; k++) {
        mtl__cells_begin(run, &columns[k]);
        if ((size_t)columns[k].part->desc->layers > layers) layers = (size_t)columns[k].part->desc->layers;
    }
    for (l = 0; l < layers && !mtl__failed(run->error); l++) mtl__cells_layers(run, columns, count, l);
    for (k = 0; k < count && !mtl__failed(run->error); k++)
        columns[k].y = mtl__cells_dropout(run, &columns[k], columns[k].part->desc->dropout, columns[k].y);
}

static const mtl_column_kind mtl__column_kinds[] = {
    { { MTL_DESC_COLUMN, "cells", NULL, 0, 0 }, mtl__cells_build, NULL, mtl__cells_forward }
};

static const mtl_column_kind *mtl__column_kind(const mtl_column_desc *d)
{
    return d->own ? d->own : &mtl__column_kinds[d->kind - MTL_COLUMN_CELLS];
}

/* ---- the list ------------------------------------------------------------------------------------------ */

enum { MTL__NODE_INPUT, MTL__NODE_COLUMN, MTL__NODE_HEAD };
enum { MTL__NODE_PARTS = 2 };                    /* what a node has for others: its rows; a head also its
                                                    distribution */

typedef struct mtl__node {
    const char *name;
    int part;                               /* MTL__NODE_* */
    size_t index;                           /* in the model's list of such parts */
    int level;                              /* MTL_LEVEL_*: what it has a row for */
    size_t width[MTL__NODE_PARTS], segment_count;
    mtl_segment segments[2];                /* of its rows */
    int tapped[MTL__NODE_PARTS];            /* 1: a tap reads this of it */
    size_t first_tensor, tensor_count;      /* its own, in the set */
    size_t component;                       /* which connected part of the model it belongs to */
} mtl__node;

/* Where a column or a head takes its rows from. */
typedef struct mtl__tap {
    mtl_mix mix;
    const mtl_mix_kind *kind;
    size_t by_count;
    int *sources;                           /* [mix.count + by_count] node * MTL__NODE_PARTS + part */
    unsigned char *stopped;                 /* [mix.count + by_count] 1: no gradient goes back */
    size_t segment_count;
    mtl_segment *segments;
} mtl__tap;

/* Number of a node whose name is text[0 .. length), or -1. */
static int mtl__node_find(const mtl__node *nodes, size_t count, const char *text, size_t length)
{
    size_t i;
    for (i = 0; i < count; i++)
        if (strlen(nodes[i].name) == length && memcmp(nodes[i].name, text, length) == 0) return (int)i;
    return -1;
}

/* The next name of "a+b", and what of it: *text moves behind it, to NULL after the last. */
static size_t mtl__tap_name(const char **text, const char **name, int *part)
{
    const char *plus = strchr(*text, '+');
    size_t length = plus ? (size_t)(plus - *text) : strlen(*text);
    static const char suffix[] = ".probabilities";
    const size_t end = sizeof suffix - 1;
    *name = *text;
    *text = plus ? plus + 1 : NULL;
    *part = length > end && memcmp(*name + length - end, suffix, end) == 0;
    return *part ? length - end : length;
}

/* How many names "a+b" holds; 0 for NULL. */
static size_t mtl__tap_names(const char *text)
{
    size_t count = text != NULL;
    for (; text && *text; text++) count += *text == '+';
    return count;
}

/* Appends a source to a tap. */
static void mtl__tap_add(mtl__tap *tap, size_t *widths, const mtl__node *nodes, int number, int part)
{
    const mtl__node *node = &nodes[number];
    const size_t width = node->width[part];
    size_t i;
    for (i = 0; (tap->kind->appends || !tap->mix.count) && i < node->segment_count; i++) {
        mtl_segment *to = &tap->segments[tap->segment_count++];
        *to = node->segments[i];
        to->begin += tap->kind->appends ? tap->mix.width : 0;
        if (part) to->width = width;        /* a distribution is one segment, as its head is */
    }
    widths[tap->mix.count] = width;
    tap->mix.width += width;                /* so far: where the next segments begin */
    tap->sources[tap->mix.count++] = number * MTL__NODE_PARTS + part;
}

/* Resolves the desc's names, all of which are placed: sources, then what a gate reads. */
static void mtl__tap_resolve(mtl__tap *tap, size_t *widths, mtl__node *nodes, size_t count, size_t first,
                             size_t parts)
{
    const char *from = tap->mix.desc->from, *by = tap->mix.desc->by, *name;
    size_t i, length;
    int part, number;
    for (i = 0; !from && i < parts; i++) mtl__tap_add(tap, widths, nodes, (int)(first + i), 0);
    while (from || by) {
        const int is_source = from != NULL;
        length = mtl__tap_name(is_source ? &from : &by, &name, &part);
        number = mtl__node_find(nodes, count, name, length);
        MTL__ASSERT(number >= 0);
        nodes[number].tapped[part] = 1;
        if (is_source) mtl__tap_add(tap, widths, nodes, number, part);
        else {
            tap->sources[tap->mix.count + tap->by_count++] = number * MTL__NODE_PARTS + part;
            tap->mix.by_width += nodes[number].width[part];
        }
    }
    for (i = 0; i < tap->mix.count + tap->by_count; i++)
        if (nodes[tap->sources[i] / MTL__NODE_PARTS].level == MTL_LEVEL_STEP) tap->mix.level = MTL_LEVEL_STEP;
}

/* Marks what no gradient goes back into. */
static mtl_status mtl__tap_stop(mtl__tap *tap, const mtl__node *nodes, size_t count, const char *where,
                                mtl_error *err)
{
    const char *stop = tap->mix.desc->stop, *name;
    const size_t total = tap->mix.count + tap->by_count;
    char field[64], shown[80];
    size_t i, length, found;
    int part, all, number;
    while (stop) {
        length = mtl__tap_name(&stop, &name, &part);
        all = length == 1 && name[0] == '*';
        number = mtl__node_find(nodes, count, name, length);
        for (i = found = 0; i < total; i++)
            if (all || (number >= 0 && tap->sources[i] == number * MTL__NODE_PARTS + part))
                found += tap->stopped[i] = 1;
        if (found) continue;
        mtl__copy_text(shown, mtl__at_most((stop ? (size_t)(stop - 1 - name) : strlen(name)) + 1,
                                           sizeof shown),
                       name);
        mtl__print(field, sizeof field, "%s.stop", where);
        return mtl__fail(err, MTL_ERROR_FIELD, field, -1, "%s: \"%s\" is none of the mix's sources", field,
                         shown);
    }
    return mtl__status(err);
}

/* Resolves a mix among `count` nodes and builds it. tap->mix has its desc, its owner and the level that is
   wanted at least. desc->from NULL: `parts` nodes from `first` on. where: for messages,
   "columns[1].input". */
static MTL__RARE mtl_status mtl__tap_build(mtl__tap *tap, mtl__node *nodes, size_t count, size_t first,
                                           size_t parts, mtl_parameters *set, const char *where,
                                           mtl_error *err)
{
    const mtl_mix_desc *desc = tap->mix.desc;
    size_t total, *widths;
    if (desc->from) parts = mtl__tap_names(desc->from);
    total = parts + mtl__tap_names(desc->by);
    tap->sources = (int *)mtl__arena_make(set->arena, total, sizeof(int), "a mix", err);
    tap->stopped = (unsigned char *)mtl__arena_make(set->arena, total, 1, "a mix", err);
    tap->segments = (mtl_segment *)mtl__arena_make(set->arena, 2 * parts, sizeof *tap->segments, "a mix",
                                                   err);
    widths = (size_t *)mtl__arena_make(set->arena, parts, sizeof *widths, "a mix", err);
    if (mtl__failed(err)) return mtl__status(err);
    tap->kind = desc->own ? desc->own : &mtl__mix_kinds[desc->kind - MTL_MIX_CONCAT];
    tap->mix.widths = widths;
    mtl__tap_resolve(tap, widths, nodes, count, first, parts);
    tap->mix.width = 0;
    if (mtl__tap_stop(tap, nodes, count, where, err) || tap->kind->build(&tap->mix, set, where, err))
        return mtl__status(err);
    if (!tap->kind->appends && tap->mix.width != widths[0]) {   /* its columns are nobody's: one segment */
        tap->segment_count = 1;
        tap->segments[0].begin = 0;
        tap->segments[0].width = tap->mix.width;
        tap->segments[0].reverse = 0;
    }
    return MTL_OK;
}

/* ---- forward ------------------------------------------------------------------------------------------- */

/* Source number i as the tap wants it: what has a row a sequence is given to each of its steps. */
static mtl_activation *mtl__tap_source(mtl_run *run, const mtl__tap *tap, const mtl__node *nodes,
                                       mtl_activation *const *out, size_t i)
{
    const mtl_packing *p = run->packing;
    mtl_activation *x = out[tap->sources[i]];
    if (nodes[tap->sources[i] / MTL__NODE_PARTS].level != tap->mix.level)
        x = mtl__select_forward(run, &p->space[MTL_LEVEL_STEP], x, p->sequence, p->rows, "");
    return x && tap->stopped[i] ? mtl__view(run, x, 1) : x;
}

/* The rows that a tap has. out: [nodes][MTL__NODE_PARTS]. */
static mtl_activation *mtl__tap_forward(mtl_run *run, const mtl__tap *tap, const mtl__node *nodes,
                                        mtl_activation *const *out)
{
    const size_t count = tap->mix.count, total = count + tap->by_count;
    mtl_activation **parts = (mtl_activation **)mtl_run_make(run, total * sizeof *parts), *by = NULL;
    size_t i;
    for (i = 0; parts && i < total; i++)
        if (!(parts[i] = mtl__tap_source(run, tap, nodes, out, i))) return NULL;
    if (parts && total > count) by = mtl__concat_forward(run, parts + count, tap->by_count, "");
    return parts && !mtl__failed(run->error) ? tap->kind->forward(run, &tap->mix, parts, by) : NULL;
}

/* ---- penalties ----------------------------------------------------------------------------------------- */

static mtl_activation *mtl__tie_penalty(mtl_run *run, const mtl_penalty_part *part, mtl_activation *a,
                                        mtl_activation *b)
{
    (void)a;
    (void)b;
    return mtl__distance_forward(run, part->a, part->b, part->count);
}

static mtl_activation *mtl__orthogonal_penalty(mtl_run *run, const mtl_penalty_part *part, mtl_activation *a,
                                               mtl_activation *b)
{
    (void)part;
    return mtl__crossing_forward(run, a, b);
}

/* An anchor ties tensors to buffers, which share one `set`. */
static mtl_status mtl__anchor_build(mtl_penalty_part *part, mtl_parameters *set, mtl_error *err)
{
    int *is_set = (int *)mtl__arena_make(set->arena, 1, sizeof *is_set, "a penalty", err);
    char name[256];
    size_t i;
    part->data = is_set;
    for (i = 0; i < part->count && !mtl__failed(err); i++) {
        const mtl_tensor *t = part->a[i];
        mtl_tensor *held = mtl_parameters_add(set, mtl__print(name, sizeof name, "buffers.%s.%s",
                                                              part->desc->name, t->name), t->shape[0],
                                              t->dims == 2 ? t->shape[1] : 0, MTL_TENSOR_BUFFER, err);
        if (!held) break;
        held->init = MTL_INIT_CONSTANT;
        held->set = is_set;
        part->b[i] = held;
    }
    return mtl__status(err);
}

static void mtl__anchor_begin(const mtl_penalty_part *part)
{
    int *is_set = (int *)part->data;
    size_t i;
    for (i = 0; !*is_set && i < part->count; i++)
        memcpy(part->b[i]->value, part->a[i]->value, part->a[i]->count * sizeof(mtl_real));
    *is_set = 1;
}

static const mtl_penalty_kind mtl__penalty_kinds[] = {
    { { MTL_DESC_PENALTY, "tie", NULL, 0, 0 }, 0, 2, NULL, NULL, mtl__tie_penalty },
    { { MTL_DESC_PENALTY, "orthogonal", NULL, 0, 0 }, 1, 2, NULL, NULL, mtl__orthogonal_penalty },
    { { MTL_DESC_PENALTY, "anchor", NULL, 0, 0 }, 0, 1, mtl__anchor_build, mtl__anchor_begin,
      mtl__tie_penalty }
};

static const mtl_penalty_kind *mtl__penalty_kind(const mtl_penalty_desc *d)
{
    return d->own ? d->own : &mtl__penalty_kinds[d->kind - MTL_PENALTY_TIE];
}

typedef struct mtl__penalty {
    const mtl_penalty_kind *kind;
    mtl_penalty_part part;
    int nodes[2], sources[2];               /* numbers of a's and b's node; of rows: as a tap's */
} mtl__penalty;

/* Tensors whose names are `prefix` or go on behind it with a dot; into out, unless it is NULL. */
static size_t mtl__penalty_tensors(const mtl_parameters *set, const char *prefix, const mtl_tensor **out)
{
    const size_t length = strlen(prefix);
    size_t i, count = 0;
    for (i = 0; i < set->count; i++) {
        const char *name = set->tensors[i]->name;
        if (strncmp(name, prefix, length) != 0 || (name[length] && name[length] != '.')) continue;
        if (out) out[count] = set->tensors[i];
        count++;
    }
    return count;
}

/* The tensor of b that corresponds to number i of a. */
static void mtl__penalty_pair(mtl_penalty_part *part, size_t i, const mtl_parameters *set, const char *what,
                              mtl_error *err)
{
    const mtl_tensor *a = part->a[i], *b;
    char name[160];
    mtl__print(name, sizeof name, "%s%s", part->desc->b, a->name + strlen(part->desc->a));
    b = part->b[i] = mtl_parameters_find(set, name);
    if (!b)
        mtl__fail(err, MTL_ERROR_FIELD, what, -1, "%s: %s has the tensor %s, but there is no %s", what,
                  part->desc->a, a->name, name);
    else if (b->dims != a->dims || b->shape[0] != a->shape[0] || b->shape[1] != a->shape[1])
        mtl__fail(err, MTL_ERROR_FIELD, what, -1, "%s: tensors of unlike shapes: %s is [%z, %z] and %s "
                  "[%z, %z]", what, a->name, a->shape[0], a->shape[1], name, b->shape[0], b->shape[1]);
}

static void mtl__penalty_build_tensors(mtl__penalty *p, mtl_parameters *set, const char *what, mtl_error *err)
{
    mtl_penalty_part *part = &p->part;
    const mtl_penalty_desc *d = part->desc;
    size_t i, others;
    part->count = mtl__penalty_tensors(set, d->a, NULL);
    others = d->b ? mtl__penalty_tensors(set, d->b, NULL) : part->count;
    part->a = (const mtl_tensor **)mtl__arena_make(set->arena, part->count, sizeof *part->a, "a penalty",
                                                   err);
    part->b = (const mtl_tensor **)mtl__arena_make(set->arena, part->count, sizeof *part->b, "a penalty",
                                                   err);
    if (mtl__failed(err)) return;
    mtl__penalty_tensors(set, d->a, part->a);
    for (i = 0; d->b && i < part->count && !mtl__failed(err); i++) mtl__penalty_pair(part, i, set, what, err);
    if (!part->count || others != part->count)
        mtl__fail(err, MTL_ERROR_FIELD, what, -1, "%s: %s has %z tensors, %s has %z", what, d->a, part->count,
                  d->b ? d->b : "it", others);
}

/* All nodes are placed, and what a penalty of rows names is among them. */
static mtl_status mtl__penalty_build(mtl__penalty *p, mtl__node *nodes, size_t count, mtl_parameters *set,
                                     const char *what, mtl_error *err)
{
    const mtl_penalty_desc *d = p->part.desc;
    const char *text, *name;
    size_t i, length;
    int part = 0;
    for (i = 0; i < (size_t)p->kind->parts; i++) {
        text = name = i ? d->b : d->a;
        length = p->kind->of_rows ? mtl__tap_name(&text, &name, &part) : strcspn(name, ".");
        p->nodes[i] = mtl__node_find(nodes, count, name, length);
        if (p->nodes[i] < 0)
            return mtl__fail(err, MTL_ERROR_FIELD, what, -1, "%s: there is no input, column or task \"%s\"",
                             what, name);
        p->sources[i] = p->nodes[i] * MTL__NODE_PARTS + part;
        if (p->kind->of_rows) nodes[p->nodes[i]].tapped[part] = 1;
    }
    if (!p->kind->of_rows) mtl__penalty_build_tensors(p, set, what, err);
    else if (p->kind->parts > 1 && nodes[p->nodes[0]].level != nodes[p->nodes[1]].level)
        mtl__fail(err, MTL_ERROR_FIELD, what, -1, "%s: of %s and %s one has a row a step, the other one a "
                  "row a sequence", what, d->a, d->b);
    return mtl__failed(err) || !p->kind->build ? mtl__status(err) : p->kind->build(&p->part, set, err);
}

/* out: of all nodes. */
static mtl_activation *mtl__penalty_forward(mtl_run *run, const mtl__penalty *p, mtl_activation *const *out)
{
    return !p->kind->of_rows ? p->kind->forward(run, &p->part, NULL, NULL)
        : p->kind->forward(run, &p->part, out[p->sources[0]], p->kind->parts > 1 ? out[p->sources[1]] : NULL);
}

/* ===========================================================================================================
   20 >>tasks      the registry: the table of kinds of task, and the heads that they share
   ===========================================================================================================
   A head:  tap -> [pool] -> [labelled rows] -> dropout -> (dense, activation, dropout)* -> dense
   In training the head sees labelled items alone, so a missing label costs no work and has no gradient; a
   head that a tap reads runs on all items, and its loss takes the labelled rows of its outputs. Where the
   steps vote on a sequence (per_step) the head has a row a step and nothing is pooled. Tensors are
   named TASK.hidden.0.weight .. and TASK.output.weight. What a kind adds is what the outputs are, their loss,
   the answer that they give, and how answers are scored.
   -------------------------------------------------------------------------------------------------------- */

/* ---- what answers have in common ----------------------------------------------------------------------- */

MTL_DEF int mtl_is_missing(mtl_real x) { return mtl__is_nan(x); }

MTL_DEF mtl_real *mtl_answer_values(mtl_run *run, const mtl_task_part *part, const mtl_activation *x,
                                    const int *items)
{
    mtl_real *values = mtl__run_reals(run, x->rows, x->width);
    size_t n, j;
    for (n = 0; n < x->rows && !mtl__failed(run->error) && !mtl__dry(run); n++) {
        const mtl_real *row = x->value + n * x->stride;
        mtl_real *to = values + (size_t)items[n] * x->width;
        for (j = 0; j < x->width; j++) {
            to[j] = mtl__unscaled(part->scaling, j % part->width, row[j]);
            if (!mtl__is_finite(to[j]))
                mtl__fail(run->error, MTL_ERROR_NUMBER, part->desc->name, items[n],
                          "task %s: output of item %d is not a finite number", part->desc->name, items[n]);
        }
    }
    return values;
}

/* ---- class: one of C classes, by softmax --------------------------------------------------------------- */

static mtl_status mtl__task_fail_loss(const mtl_task_desc *t, const char *what, mtl_error *err)
{
    return mtl__fail(err, MTL_ERROR_FIELD, what, t->loss, "%s.loss does not fit the task's kind "
                     "(cross-entropy for classes, bce for sets of them, the others for numbers)", what);
}

/* What a kind with classes and one loss checks. */
static mtl_status mtl__task_check_classes(mtl_task_desc *t, int loss, const char *what, mtl_error *err)
{
    if (t->classes < 1)
        mtl__fail(err, MTL_ERROR_FIELD, what, t->classes, "%s.classes (task \"%s\") must be at least 1", what,
                  t->name);
    if (t->loss == MTL_LOSS_DEFAULT) t->loss = loss;
    return t->loss == loss ? mtl__status(err) : mtl__task_fail_loss(t, what, err);
}

static mtl_status mtl__class_check(mtl_task_desc *t, const char *what, mtl_error *err)
{
    size_t i;
    mtl__task_check_classes(t, MTL_LOSS_CROSS_ENTROPY, what, err);
    for (i = 0; t->class_weights && i < (size_t)t->classes; i++)
        if (!(t->class_weights[i] >= 0) || !mtl__is_finite((mtl_real)t->class_weights[i]))
            mtl__fail(err, MTL_ERROR_FIELD, what, (long long)i,
                      "%s.class_weights[%z] must be a number of at least 0", what, i);
    return mtl__status(err);
}

static mtl_status mtl__class_build(mtl_task_part *part, mtl_parameters *set, mtl_error *err)
{
    const mtl_task_desc *d = part->desc;
    (void)set;
    part->outputs = part->width = (size_t)d->classes;
    part->spans = d->level == MTL_LEVEL_STEP && d->labels && mtl_labels_are_spans(d->labels, part->outputs);
    return mtl__status(err);
}

/* What a loss of any kind begins with. */
static mtl__loss_data mtl__task_loss_data(const mtl_task_part *part, const mtl_loss_items *items)
{
    mtl__loss_data how;
    memset(&how, 0, sizeof how);
    how.loss = part->desc->loss;
    how.target = items->target;
    how.items = items->items;
    how.scaling = part->scaling;
    how.divisor = items->divisor;
    return how;
}

MTL_DEF mtl_activation *mtl_loss_of_outputs(mtl_run *run, const mtl_task_part *part,
                                            const mtl_loss_items *items, mtl_activation *x,
                                            mtl_output_loss loss)
{
    mtl__loss_data how = mtl__task_loss_data(part, items);
    how.loss = MTL_LOSS_DEFAULT;
    how.of_output = loss;
    how.part = part;
    return mtl__loss_forward(run, &how, x, NULL);
}

static mtl_activation *mtl__class_loss(mtl_run *run, const mtl_task_part *part, const mtl_loss_items *items,
                                       mtl_activation *x)
{
    mtl__loss_data how = mtl__task_loss_data(part, items);
    how.smoothing = part->desc->label_smoothing;
    how.class_weights = part->desc->class_weights;
    return mtl__loss_forward(run, &how, x, part->probabilities);
}

static mtl_activation *mtl__class_distribution(mtl_run *run, const mtl_task_part *part, mtl_activation *x)
{
    return mtl__softmax_forward(run, x, part->probabilities);
}

/* The likeliest class of each item, and all their probabilities. */
static void mtl__class_answer(mtl_run *run, const mtl_task_part *part, const mtl_activation *x,
                              const mtl_activation *p, const int *items, mtl_prediction *out)
{
    int *labels = (int *)mtl_run_push(run, p->rows * sizeof *labels);
    size_t n, j;
    (void)x;
    out->labels = labels;
    out->probabilities = mtl_answer_values(run, part, p, items);
    for (n = 0; n < p->rows && !mtl__failed(run->error) && !mtl__dry(run); n++) {
        const mtl_real *row = p->value + n * p->stride;
        size_t best = 0;
        for (j = 0; j < p->width; j++)
            if (row[j] > row[best]) best = j;
        labels[items[n]] = (int)best;
    }
}

/* Accuracy, span scores, the mean loss of what is predicted, the confusion matrix. */
static int mtl__class_count(const mtl_task_part *part, const mtl_count *c)
{
    mtl__metric *m = (mtl__metric *)c->counts;
    const mtl_target *target = c->target;
    const mtl_prediction *out = c->answer;
    const int *gold = target->labels;
    int judged = MTL_JUDGED_NOT;
    size_t i, row;
    if (!gold) return judged;
    m->spans = part->spans;
    mtl__metric_class(m, gold + c->first, out->labels + c->first, c->items);
    if (part->spans)
        mtl__metric_spans(m, gold + c->first, out->labels + c->first, c->items, part->desc->labels,
                          target->unknown);
    for (i = c->first; i < c->first + c->items; i++) {
        if (gold[i] == MTL_MISSING) continue;
        if (judged != MTL_JUDGED_WRONG) judged = gold[i] == out->labels[i]
            ? MTL_JUDGED_RIGHT : MTL_JUDGED_WRONG;
        row = gold[i] < 0 ? out->width + (size_t)(MTL_UNKNOWN_LABEL - gold[i]) : (size_t)gold[i];
        if (c->confusion && (gold[i] >= 0 || target->unknown))
            c->confusion[row * out->width + (size_t)out->labels[i]]++;
        if (gold[i] < 0) continue;
        m->loss_sum -= log((double)out->probabilities[i * out->width + (size_t)gold[i]] + 1e-45);
        m->loss_weight += 1;
    }
    return judged;
}

static void mtl__class_score(const mtl_task_part *part, const void *counts, mtl_task_score *score)
{
    (void)part;
    mtl__metric_finish_class((const mtl__metric *)counts, score);
}

#define MTL__FIGURE(title, name, member, share) \
    { { title, title }, { name, name }, offsetof(mtl_task_score, member), share, 0 }
#define MTL__FIGURE_OF_SPANS(title, member) \
    { { NULL, title }, { NULL, #member }, offsetof(mtl_task_score, member), 1, 1 }
static const mtl_figure mtl__class_figures[] = {
    { { "accuracy", "token accuracy" }, { "accuracy", "token_accuracy" }, offsetof(mtl_task_score, accuracy),
      1, 0 },
    MTL__FIGURE_OF_SPANS("span precision", span_precision),
    MTL__FIGURE_OF_SPANS("recall", span_recall),
    MTL__FIGURE_OF_SPANS("F1", span_f1),
    MTL__FIGURE(NULL, NULL, accuracy, 0)
};

/* ---- real: numbers, standardised while they are learnt ------------------------------------------------- */

static mtl_status mtl__real_check(mtl_task_desc *t, const char *what, mtl_error *err)
{
    if (t->loss == MTL_LOSS_DEFAULT) t->loss = MTL_LOSS_MSE;
    if (t->loss != MTL_LOSS_CROSS_ENTROPY && t->loss != MTL_LOSS_BCE) return mtl__status(err);
    return mtl__task_fail_loss(t, what, err);
}

static mtl_status mtl__real_build(mtl_task_part *part, mtl_parameters *set, mtl_error *err)
{
    (void)set;
    part->outputs = part->width = (size_t)part->desc->width;
    return mtl__status(err);
}

static mtl_activation *mtl__numbers_loss(mtl_run *run, const mtl_task_part *part, const mtl_loss_items *items,
                                         mtl_activation *x)
{
    mtl__loss_data how = mtl__task_loss_data(part, items);
    how.delta = part->desc->huber_delta;
    return mtl__loss_forward(run, &how, x, NULL);
}

/* The loss reported for numbers is their mean squared error, in original units, whatever the task trains
   on. */
static int mtl__real_count(const mtl_task_part *part, const mtl_count *c)
{
    mtl__metric *m = (mtl__metric *)c->counts;
    const mtl_real *gold = c->target->values, *out = c->answer->values;
    size_t i, width = part->width;
    if (!gold) return MTL_JUDGED_NOT;
    m->width = width;
    for (i = c->first * width; i < (c->first + c->items) * width; i++) {
        if (mtl__is_nan(gold[i])) continue;
        m->loss_sum += ((double)out[i] - (double)gold[i]) * ((double)out[i] - (double)gold[i]);
        m->loss_weight += 1;
    }
    mtl__metric_real(m, gold + c->first * width, out + c->first * width, c->items * width);
    return MTL_JUDGED_NOT;
}

static void mtl__real_score(const mtl_task_part *part, const void *counts, mtl_task_score *score)
{
    (void)part;
    mtl__metric_finish_real((const mtl__metric *)counts, score);
}

static const mtl_figure mtl__real_figures[] = {
    MTL__FIGURE("RMSE", "rmse", rmse, 0),
    MTL__FIGURE("MAE", "mae", mae, 0),
    MTL__FIGURE("R2", NULL, r2, 1),
    MTL__FIGURE(NULL, NULL, rmse, 0)
};

/* ---- multi: any number of C classes, each by a sigmoid of its own -------------------------------------- */

static mtl_status mtl__multi_check(mtl_task_desc *t, const char *what, mtl_error *err)
{
    if (t->class_weights || t->label_smoothing != 0)
        mtl__fail(err, MTL_ERROR_FIELD, what, -1, "%s (task \"%s\"): %s is of class tasks: leave it out",
                  what, t->name, t->class_weights ? "class_weights" : "label_smoothing");
    return mtl__task_check_classes(t, MTL_LOSS_BCE, what, err);
}

static mtl_activation *mtl__multi_distribution(mtl_run *run, const mtl_task_part *part, mtl_activation *x)
{
    return mtl__activate_forward(run, MTL_ACTIVATION_SIGMOID, x, part->probabilities);
}

/* The probability of each class, and which are at least even. */
static void mtl__multi_answer(mtl_run *run, const mtl_task_part *part, const mtl_activation *x,
                              const mtl_activation *p, const int *items, mtl_prediction *out)
{
    const size_t count = x->rows * x->width;
    unsigned char *chosen = (unsigned char *)mtl_run_push(run, count);
    size_t i;
    out->chosen = chosen;
    out->probabilities = p ? mtl_answer_values(run, part, p, items) : NULL;
    for (i = 0; i < count && !mtl__failed(run->error) && !mtl__dry(run); i++)
        chosen[i] = out->probabilities[i] >= (mtl_real)0.5;
}

/* What is counted, and behind it an mtl__metric_label of each class. */
typedef struct mtl__multi_counts {
    mtl__metric m;
    size_t unknown;                         /* labels that are no class */
    mtl__metric_label strange;              /* of these, all together */
} mtl__multi_counts;

/* The loss reported is that of the probabilities given. */
static int mtl__multi_count(const mtl_task_part *part, const mtl_count *c)
{
    mtl__multi_counts *m = (mtl__multi_counts *)c->counts;
    const mtl_target *t = c->target;
    const size_t width = part->width;
    size_t i, j;
    if (!t->values) return MTL_JUDGED_NOT;
    if (t->unknown_count > m->unknown) m->unknown = t->unknown_count;
    for (i = c->first; i < c->first + c->items; i++) {
        const mtl_real *gold = t->values + i * width, *p = c->answer->probabilities + i * width;
        if (!mtl__target_is_given(t, i, width)) continue;
        mtl__metric_set((mtl__metric_label *)(m + 1), width, gold, c->answer->chosen + i * width);
        m->strange.gold += t->strange ? t->strange[i] : 0;
        m->m.items++;
        for (j = 0; j < width; j++)
            m->m.loss_sum -= log((gold[j] > 0 ? (double)p[j] : 1 - (double)p[j]) + 1e-45);
        m->m.loss_weight += (double)width;
    }
    return MTL_JUDGED_NOT;
}

static void mtl__multi_score(const mtl_task_part *part, const void *counts, mtl_task_score *score)
{
    const mtl__multi_counts *m = (const mtl__multi_counts *)counts;
    mtl__metric_finish_set(&m->m, (const mtl__metric_label *)(m + 1), part->width, &m->strange, m->unknown,
                           score);
}

static const mtl_figure mtl__multi_figures[] = {
    MTL__FIGURE("micro F1", "micro_f1", micro_f1, 1),
    MTL__FIGURE("macro F1", "macro_f1", macro_f1, 1),
    MTL__FIGURE(NULL, NULL, micro_f1, 0)
};

/* ---- origin: which data set a sequence comes from, a class that nobody scores -------------------------- */

static mtl_status mtl__origin_check(mtl_task_desc *t, const char *what, mtl_error *err)
{
    if (t->level != MTL_LEVEL_SEQUENCE)
        mtl__fail(err, MTL_ERROR_FIELD, what, t->level, "%s.level must be sequence: data sets have sequences",
                  what);
    return mtl__class_check(t, what, err);
}

static int mtl__origin_count(const mtl_task_part *part, const mtl_count *c)
{
    (void)part;
    (void)c;
    return MTL_JUDGED_NOT;
}

static void mtl__origin_score(const mtl_task_part *part, const void *counts, mtl_task_score *score)
{
    (void)part;
    (void)counts;
    (void)score;
}

static const mtl_figure mtl__origin_figures[] = { MTL__FIGURE(NULL, NULL, accuracy, 0) };

/* ---- the table ----------------------------------------------------------------------------------------- */

static const mtl_task_kind mtl__task_kinds[] = {
    { { MTL_DESC_TASK, "class", NULL, 0, 0 }, { "class", "tags" }, MTL_TARGET_LABELS, 0, "logits",
        mtl__class_check,
      mtl__class_build, mtl__class_loss, mtl__class_distribution, mtl__class_answer, sizeof(mtl__metric), 0,
      mtl__class_count, mtl__class_score, mtl__class_figures },
    { { MTL_DESC_TASK, "real", NULL, 0, 0 }, { "real", "reals" }, MTL_TARGET_NUMBERS, 1, "values",
        mtl__real_check,
      mtl__real_build, mtl__numbers_loss, NULL, NULL, sizeof(mtl__metric), 0, mtl__real_count,
      mtl__real_score, mtl__real_figures },
    { { MTL_DESC_TASK, "multi", NULL, 0, 0 }, { "multi", NULL }, MTL_TARGET_SET, 0, "logits",
        mtl__multi_check,
      mtl__class_build, mtl__numbers_loss, mtl__multi_distribution, mtl__multi_answer,
      sizeof(mtl__multi_counts), sizeof(mtl__metric_label), mtl__multi_count, mtl__multi_score,
      mtl__multi_figures },
    { { MTL_DESC_TASK, "origin", NULL, 0, 0 }, { NULL, NULL }, MTL_TARGET_ORIGIN, 0, "logits",
      mtl__origin_check, mtl__class_build, mtl__class_loss, mtl__class_distribution, mtl__class_answer, 0, 0,
      mtl__origin_count, mtl__origin_score, mtl__origin_figures }
};

static const mtl_task_kind *mtl__task_kind(const mtl_task_desc *d)
{
    return d->own ? d->own : &mtl__task_kinds[d->kind - MTL_TASK_CLASS];
}

MTL_DEF const mtl_kind *mtl_kind_at(int desc, size_t i)
{
    switch (desc) {
    case MTL_DESC_INPUT: return i < MTL__COUNT(mtl__input_kinds) ? &mtl__input_kinds[i].kind : NULL;
    case MTL_DESC_COLUMN: return i < MTL__COUNT(mtl__column_kinds) ? &mtl__column_kinds[i].kind : NULL;
    case MTL_DESC_MIX: return i < MTL__COUNT(mtl__mix_kinds) ? &mtl__mix_kinds[i].kind : NULL;
    case MTL_DESC_TASK: return i < MTL__COUNT(mtl__task_kinds) ? &mtl__task_kinds[i].kind : NULL;
    case MTL_DESC_PENALTY: return i < MTL__COUNT(mtl__penalty_kinds) ? &mtl__penalty_kinds[i].kind : NULL;
    default: return NULL;
    }
}

MTL_DEF const mtl_task_kind *mtl_task_kind_of(const mtl_task_desc *task)
{
    return task ? mtl__task_kind(task) : NULL;
}

/* ---- heads --------------------------------------------------------------------------------------------- */

typedef struct mtl__task {
    const mtl_task_desc *desc;
    const mtl_task_kind *kind;
    mtl_task_part part;
    mtl__tap tap;
    size_t node;                            /* its number in the list of nodes */
    size_t hidden_count;
    mtl_dense *hidden[MTL_MAX_HIDDEN], *output;
    mtl_scaling *scaling;                   /* of real targets; of others an empty one */
    mtl__vocabulary labels;
    const char *pooled_name, *output_name;
} mtl__task;

/* What is wrong with a desc of any kind, and of its kind. */
static mtl_status mtl__task_check(mtl_task_desc *d, const char *what, mtl_error *err)
{
    const mtl_task_kind *kind = mtl__task_kind(d);
    if (d->per_step && (d->level != MTL_LEVEL_SEQUENCE || !kind->distribution))
        mtl__fail(err, MTL_ERROR_FIELD, what, -1, "%s.per_step (task \"%s\"): only classes of sequences can "
                  "be predicted by a vote of the steps", what, d->name);
    return kind->check ? kind->check(d, what, err) : mtl__status(err);
}

/* What the head has a row for. */
static int mtl__task_level(const mtl_task_desc *d) { return d->per_step ? MTL_LEVEL_STEP : d->level; }

static const char *mtl__task_name(mtl_arena *arena, const char *task, const char *what, mtl_error *err)
{
    char text[160];
    return mtl__arena_text(arena, mtl__print(text, sizeof text, "%s.%s", task, what), err);
}

/* The head's layers, added to the set. The tap is built already. */
static void mtl__task_build(mtl__task *task, const mtl_task_desc *desc, mtl_parameters *set, mtl_error *err)
{
    size_t inputs = task->tap.mix.width;
    mtl_task_part *part = &task->part;
    char text[160];
    task->desc = part->desc = desc;
    task->kind = mtl__task_kind(desc);
    task->kind->build(part, set, err);
    for (; task->hidden_count < MTL_MAX_HIDDEN && desc->hidden[task->hidden_count] > 0; task->hidden_count++)
        {
        size_t i = task->hidden_count, units = (size_t)desc->hidden[i];
        task->hidden[i] = mtl_dense_add(set, mtl__print(text, sizeof text, "%s.hidden.%z", desc->name, i),
                                        inputs, units, 0, err);
        inputs = units;
    }
    task->output = mtl_dense_add(set, mtl__print(text, sizeof text, "%s.output", desc->name), inputs,
                                 part->outputs, 0, err);
    task->pooled_name = mtl__task_name(set->arena, desc->name, "pooled", err);
    task->output_name = mtl__task_name(set->arena, desc->name, task->kind->output_name, err);
    part->probabilities = mtl__task_name(set->arena, desc->name, "probabilities", err);
    part->scaling = task->scaling = mtl_scaling_add(set, desc->name, task->kind->scaled ? part->width : 0,
                                                    err);
    if (desc->labels && !mtl__failed(err))
        mtl__vocabulary_init(&task->labels, desc->labels, (size_t)desc->classes, set->arena, err);
}

static size_t mtl__task_items(const mtl__task *task, size_t sequences, size_t rows)
{
    return task->desc->level == MTL_LEVEL_SEQUENCE ? sequences : rows;
}

/* Fails as "task T: WHAT of sequence S, step N FAULT", for one of the caller's items. */
static mtl_status mtl__task_fail_item(const mtl__task *task, const int *lengths, size_t item, mtl_status code,
                                      const char *what, const char *fault, mtl_error *err)
{
    const char *name = task->desc->name;
    size_t s = 0, step = item;
    if (task->desc->level == MTL_LEVEL_SEQUENCE)
        return mtl__fail(err, code, name, (long long)item, "task %s: %s of sequence %z %s", name, what, item,
                         fault);
    while (step >= (size_t)lengths[s]) step -= (size_t)lengths[s++];
    return mtl__fail(err, code, name, (long long)item, "task %s: %s of sequence %z, step %z %s", name, what,
                     s, step, fault);
}

static mtl_status mtl__task_fail_label(const mtl__task *task, const int *lengths, size_t item, int label,
                                       mtl_error *err)
{
    char what[32], fault[48];
    mtl__print(what, sizeof what, "label %d", label);
    mtl__print(fault, sizeof fault, "is not among its %z classes", task->part.width);
    return mtl__task_fail_item(task, lengths, item, MTL_ERROR_RANGE, what, fault, err);
}

/* 1 when a label is a class, missing, or an unknown one that the target can name. */
static int mtl__task_label_is_valid(const mtl__task *task, const mtl_target *target, int label)
{
    if (label > MTL_UNKNOWN_LABEL) return label < (int)task->part.width;
    return (size_t)(MTL_UNKNOWN_LABEL - label) < (target->unknown ? target->unknown_count : 1);
}

/* The first number of an item's target that cannot stand there, told in an error. */
static mtl_status mtl__task_check_numbers(const mtl__task *task, const int *lengths, size_t item,
                                          const mtl_real *numbers, mtl_error *err)
{
    char what[48];
    size_t j;
    for (j = 0; j < task->part.width; j++) {
        if (!mtl__is_finite(numbers[j]))
            return mtl__task_fail_item(task, lengths, item, MTL_ERROR_NUMBER, "the target",
                                       "is not finite (a missing one is NaN)", err);
        if (task->kind->target != MTL_TARGET_SET || numbers[j] == 0 || numbers[j] == 1) continue;
        mtl__print(what, sizeof what, "the target of class %z", j);
        return mtl__task_fail_item(task, lengths, item, MTL_ERROR_NUMBER, what, "is neither 0 nor 1", err);
    }
    return MTL_OK;
}

/* Checks a batch's targets of one task and adds up its labelled items and their share of the divisor: a label
   counts 1 or its class weight, numbers count their width; where steps vote, each step is an item. */
static mtl_status mtl__task_count(const mtl__task *task, const mtl_target *target, size_t items,
                                  const int *lengths, size_t *labelled, double *divisor, mtl_error *err)
{
    const mtl_real *numbers = !target ? NULL : target->values ? target->values : target->distribution;
    const size_t width = task->part.width;
    size_t i;
    if (mtl__failed(err)) return mtl__status(err);
    for (i = 0; target && i < items; i++) {
        const size_t steps = task->desc->per_step ? (size_t)lengths[i] : 1;
        double weight = task->kind->target == MTL_TARGET_LABELS || task->kind->target == MTL_TARGET_ORIGIN
            ? 1 : (double)width;
        if (target->labels && !mtl__task_label_is_valid(task, target, target->labels[i]))
            return mtl__task_fail_label(task, lengths, i, target->labels[i], err);
        if (!mtl__target_is_given(target, i, width)) continue;
        if (numbers && mtl__task_check_numbers(task, lengths, i, numbers + i * width, err))
            return mtl__status(err);
        if (target->labels && task->desc->class_weights)
            weight = (double)task->desc->class_weights[target->labels[i]];
        *labelled += steps;
        *divisor += weight * (double)steps;
    }
    return MTL_OK;
}

/* A target that does not fit its task's kind. */
static mtl_status mtl__task_check_target(const mtl__task *task, const mtl_target *target, mtl_error *err)
{
    const int labels = task->kind->target == MTL_TARGET_LABELS;
    if (mtl__failed(err) || !target) return mtl__status(err);
    if (labels ? target->values != NULL : target->labels || target->distribution)
        return mtl__fail(err, MTL_ERROR_ARGUMENT, task->desc->name, -1, "task %s: its targets must be %s",
                         task->desc->name, labels ? "labels or distributions" : "values");
    return MTL_OK;
}

/* The head over rows of its input; key: what a row's dropout depends on. */
static mtl_activation *mtl__task_head(mtl_run *run, const mtl__task *task, mtl_activation *x, const int *key)
{
    size_t i;
    x = mtl__dropout_layer(run, task->desc->dropout, key, x, "");
    for (i = 0; x && i < task->hidden_count; i++) {
        x = mtl_dense_forward(run, task->hidden[i], x, NULL);
        x = mtl__activate_forward(run, task->desc->activation, x, NULL);
        x = mtl__dropout_layer(run, task->desc->dropout, key, x, "");
    }
    return x ? mtl_dense_forward(run, task->output, x, task->output_name) : NULL;
}

/* Which of the caller's items each packed row (or place) is. */
static const int *mtl__task_caller(const mtl_run *run, int level)
{
    return level == MTL_LEVEL_SEQUENCE ? run->packing->order : run->packing->caller_row;
}

/* The head's input: one row an item, in packed order. out: of all nodes before it. */
static mtl_activation *mtl__task_input(mtl_run *run, const mtl__task *task, const mtl__node *nodes,
                                       mtl_activation *const *out)
{
    const mtl__tap *tap = &task->tap;
    mtl_activation *x = mtl__tap_forward(run, tap, nodes, out);
    if (!x || mtl__task_level(task->desc) == tap->mix.level) return x;
    return mtl__pool_forward(run, task->desc->pool, x, tap->segments, tap->segment_count, task->pooled_name);
}

/* All items: logits, or real values as learnt (standardised). */
static mtl_activation *mtl__task_outputs(mtl_run *run, const mtl__task *task, const mtl__node *nodes,
                                         mtl_activation *const *out)
{
    mtl_activation *x = out[task->node * MTL__NODE_PARTS];
    return x ? x : mtl__task_head(run, task, mtl__task_input(run, task, nodes, out),
                                  mtl__task_caller(run, mtl__task_level(task->desc)));
}

/* What of all items a loss is taken over: packed rows (or places) of the labelled ones, which of the caller's
   items (steps that vote: sequences) they are, and which of the caller's rows. A dry run counts all. */
static size_t mtl__task_labelled(mtl_run *run, const mtl__task *task, const mtl_target *target, int **rows,
                                 int **items, int **keys)
{
    const mtl_packing *p = run->packing;
    const int vote = task->desc->per_step, level = mtl__task_level(task->desc);
    size_t all = level == MTL_LEVEL_SEQUENCE ? p->sequences : p->rows, count = 0, i;
    const int *of_rows = mtl__task_caller(run, level), *caller = vote ? p->caller_sequence : of_rows;
    *rows = (int *)mtl_run_push(run, all * sizeof(int));
    *items = (int *)mtl_run_push(run, all * sizeof(int));
    *keys = vote ? (int *)mtl_run_push(run, all * sizeof(int)) : *items;
    if (mtl__failed(run->error)) return 0;
    if (mtl__dry(run)) return all;
    for (i = 0; i < all; i++)
        if (mtl__target_is_given(target, (size_t)caller[i], task->part.width)) {
            (*rows)[count] = (int)i;
            (*keys)[count] = of_rows[i];
            (*items)[count++] = caller[i];
        }
    return count;
}

/* The task's part of the joint loss, L_k as far as this batch goes; NULL when it has no labelled item (or the
   run failed). A head that has run already, because a tap reads it, gives up its labelled rows; else it runs
   on these. */
static mtl_activation *mtl__task_loss(mtl_run *run, const mtl__task *task, const mtl__node *nodes,
                                      mtl_activation *const *out, const mtl_target *target, double divisor)
{
    mtl_activation *ready = out[task->node * MTL__NODE_PARTS], *x;
    mtl_loss_items all;
    int *rows, *items, *keys;
    all.rows = mtl__task_labelled(run, task, target, &rows, &items, &keys);
    all.items = items;
    all.target = target;
    all.divisor = divisor;
    if (!all.rows) return NULL;
    x = ready ? ready : mtl__task_input(run, task, nodes, out);
    if (x && (mtl__dry(run) || all.rows < x->rows)) x = mtl__select_forward(run, NULL, x, rows, all.rows,
                                                                                "");
    if (!ready) x = mtl__task_head(run, task, x, keys);
    return x ? task->kind->loss(run, &task->part, &all, x) : NULL;
}

/* Puts a task's outputs into the caller's order and its own units. Of steps that vote the distribution is
   their mean, whose likeliest class is that of their sum. p: the distribution, NULL: it is not made yet. */
static void mtl__task_answer(mtl_run *run, const mtl__task *task, mtl_activation *x, mtl_activation *p,
                             mtl_prediction *out)
{
    if (!p && x && task->kind->distribution) p = task->kind->distribution(run, &task->part, x);
    if (task->desc->per_step) x = p = mtl__pool_forward(run, MTL_POOL_MEAN, p, NULL, 0, NULL);
    if (!x || mtl__failed(run->error)) return;
    out->items = x->rows;
    out->width = p ? p->width : x->width;
    if (task->kind->answer)
        task->kind->answer(run, &task->part, x, p, mtl__task_caller(run, task->desc->level), out);
    else out->values = mtl_answer_values(run, &task->part, x, mtl__task_caller(run, task->desc->level));
}

/* ===========================================================================================================
   21 >>sharing    presets: each fills a desc with columns, mixes, taps, penalties; nothing in the passes
   ===========================================================================================================
   A preset is a row of a table and a function of a few lines that adds columns and points taps to them.
   Columns are copies of the plain desc's encoder; "shared" and numbered ones are everybody's, "TASK-own" is
   one task's. Penalties are numbered: tie0, apart0.
   -------------------------------------------------------------------------------------------------------- */
typedef struct mtl__share {
    mtl_share_desc how;
    const mtl_model_desc *plain;
    mtl_model_desc *out;
    mtl_input_desc *inputs;
    mtl_column_desc *columns;
    mtl_task_desc *tasks;
    mtl_penalty_desc *penalties;
    size_t room;                            /* for columns */
    mtl_arena *arena;
    mtl_error *err;
} mtl__share;

/* "a-b", or "a-b3" where number is not negative; in the arena. */
static const char *mtl__share_name(const mtl__share *s, const char *a, const char *b, int number)
{
    char text[128];
    if (number < 0) mtl__print(text, sizeof text, "%s%s", a, b);
    else mtl__print(text, sizeof text, "%s%s%d", a, b, number);
    return mtl__arena_text(s->arena, text, s->err);
}

/* "a+b"; a NULL: b. */
static const char *mtl__share_join(const mtl__share *s, const char *a, const char *b)
{
    size_t length = (a ? strlen(a) + 1 : 0) + strlen(b) + 1;
    char *text = a ? (char *)mtl__arena_make(s->arena, length, 1, "a mix", s->err) : NULL;
    if (!text) return b;
    mtl__print(text, length, "%s+%s", a, b);
    return text;
}

/* A copy of the encoder over `from` (NULL: all inputs of the plain desc). */
static mtl_column_desc *mtl__share_column(mtl__share *s, const char *name, const char *from, int hidden)
{
    mtl_column_desc *column = &s->columns[s->out->column_count < s->room ? s->out->column_count++ : 0];
    *column = s->plain->encoder;
    column->name = name;
    column->input.from = from;
    if (hidden) column->hidden = hidden;
    return column;
}

/* Names of all inputs of the plain desc, for mixes that have further sources. */
static const char *mtl__share_inputs(const mtl__share *s)
{
    const char *names = NULL;
    size_t i;
    for (i = 0; i < s->plain->input_count; i++) names = mtl__share_join(s, names, s->plain->inputs[i].name);
    return names;
}

static void mtl__share_tap(mtl__share *s, size_t task, const char *from, int kind)
{
    s->tasks[task].tap.from = from;
    s->tasks[task].tap.kind = kind;
    s->tasks[task].tap.per_sequence = s->how.per_sequence;
}

static void mtl__share_full(mtl__share *s)
{
    const char *name = s->plain->encoder.name ? s->plain->encoder.name : "encoder";
    size_t k;
    mtl__share_column(s, name, NULL, s->how.hidden);
    for (k = 0; k < s->plain->task_count; k++) mtl__share_tap(s, k, name, MTL_MIX_CONCAT);
}

/* Each task its own inputs and column. The first task's inputs are those of the plain desc; the others' read
   their data. */
static void mtl__share_none(mtl__share *s)
{
    size_t k, i, count = s->plain->input_count;
    for (k = 0; k < s->plain->task_count; k++) {
        const char *task = s->plain->tasks[k].name, *own = mtl__share_name(s, task, "-own", -1), *from = NULL;
        for (i = 0; i < count && k > 0; i++) {
            mtl_input_desc *input = &s->inputs[s->out->input_count++];
            *input = s->plain->inputs[i];
            input->reads = s->plain->inputs[i].name;
            input->words = NULL;
            input->name = mtl__share_name(s, task, mtl__share_name(s, "-", input->reads, -1), -1);
            from = mtl__share_join(s, from, input->name);
        }
        mtl__share_column(s, own, k ? from : mtl__share_inputs(s), s->how.own_hidden);
        mtl__share_tap(s, k, own, MTL_MIX_CONCAT);
    }
}

/* A shared column and one of each task's own, which may stand on it, in one mix. */
static void mtl__share_beside(mtl__share *s, int own_hidden, int above, int kind)
{
    size_t k;
    mtl__share_column(s, "shared", NULL, s->how.hidden);
    for (k = 0; k < s->plain->task_count; k++) {
        const char *own = mtl__share_name(s, s->plain->tasks[k].name, "-own", -1);
        mtl__share_column(s, own, above ? "shared" : mtl__share_inputs(s), own_hidden);
        mtl__share_tap(s, k, above ? own : mtl__share_join(s, "shared", own), kind);
    }
}

static void mtl__share_partial(mtl__share *s)
{
    mtl__share_beside(s, s->how.own_hidden, s->how.above, MTL_MIX_CONCAT);
}

static void mtl__share_gated(mtl__share *s) { mtl__share_beside(s, s->how.hidden, 0, MTL_MIX_GATE); }

/* The level of a task: its place in how.order, or 0 for a task of steps where others are of sequences. -1:
   left out. */
static int mtl__share_level(const mtl__share *s, size_t task)
{
    const char *c = s->how.order, *name = s->plain->tasks[task].name, *end;
    int level = 0;
    if (!c) return s->plain->tasks[task].level == MTL_LEVEL_STEP ? 0 : 1;
    for (; *c; c = *end ? end + 1 : end) {
        end = c + strcspn(c, "+/");
        if ((size_t)(end - c) == strlen(name) && memcmp(c, name, strlen(name)) == 0) return level;
        level += *end == '/';
    }
    return -1;
}

static MTL__RARE void mtl__share_hierarchical(mtl__share *s)
{
    int level, found = 1;
    size_t k;
    const char *below = NULL, *lower = NULL;
    for (k = 0; k < s->plain->task_count; k++)
        if (mtl__share_level(s, k) < 0)
            mtl__fail(s->err, MTL_ERROR_FIELD, "share.order", -1, "share.order leaves out task %s",
                      s->plain->tasks[k].name);
    for (level = 0; found && !mtl__failed(s->err); level++) {
        const char *name = mtl__share_name(s, "level", "", level), *from = mtl__share_inputs(s), *here = NULL;
        if (below) from = mtl__share_join(s, from, below);
        if (lower) from = mtl__share_join(s, from, lower);
        for (found = 0, k = 0; k < s->plain->task_count; k++)
            if (mtl__share_level(s, k) == level) {
                const char *predicted = mtl__share_name(s, s->plain->tasks[k].name, ".probabilities", -1);
                if (!found++) mtl__share_column(s, name, from, s->how.hidden)->input.stop = s->how.stopped
                    ? lower : NULL;
                mtl__share_tap(s, k, name, MTL_MIX_CONCAT);
                if (s->how.distributions && mtl_task_kind_of(&s->plain->tasks[k])->distribution)
                    here = mtl__share_join(s, here, predicted);
            }
        if (level == 0) found = 1;          /* tasks of sequences alone stand at level 1 */
        if (here) lower = lower ? mtl__share_join(s, lower, here) : here;
        if (s->out->column_count) below = s->columns[s->out->column_count - 1].name;
    }
}

/* One column a task and layer. Of each mix the first source is the task's own. */
static MTL__RARE void mtl__share_cross_stitch(mtl__share *s)
{
    size_t k, other, tasks = s->plain->task_count;
    int layer, layers = s->plain->encoder.layers ? s->plain->encoder.layers : 1;
    for (layer = 0; layer <= layers; layer++)
        for (k = 0; k < tasks; k++) {
            const char *from = layer ? mtl__share_name(s, s->plain->tasks[k].name, "-layer", layer - 1)
                : NULL;
            mtl_column_desc *column;
            for (other = 0; layer && other < tasks; other++)
                if (other != k)
                    from = mtl__share_join(s, from, mtl__share_name(s, s->plain->tasks[other].name, "-layer",
                                                                    layer - 1));
            if (layer == layers) {
                mtl__share_tap(s, k, from, MTL_MIX_CROSS_STITCH);
                continue;
            }
            column = mtl__share_column(s, mtl__share_name(s, s->plain->tasks[k].name, "-layer", layer),
                                       layer ? from : mtl__share_inputs(s), s->how.own_hidden);
            column->layers = 1;
            if (layer) column->input.kind = MTL_MIX_CROSS_STITCH;
        }
}

/* The encoder's layers as columns above one another; each task reads a mixture of them. */
static void mtl__share_levels(mtl__share *s)
{
    const char *all = NULL, *below = NULL;
    int layer, layers = s->plain->encoder.layers ? s->plain->encoder.layers : 1;
    size_t k;
    for (layer = 0; layer < layers; layer++) {
        const char *name = mtl__share_name(s, "layer", "", layer);
        mtl__share_column(s, name, below, s->how.hidden)->layers = 1;
        all = mtl__share_join(s, all, below = name);
    }
    for (k = 0; k < s->plain->task_count; k++) mtl__share_tap(s, k, all, MTL_MIX_LEVELS);
}

/* `count` experts OWNERexpert0 .., all over one mix; returns their names. */
static const char *mtl__share_experts(mtl__share *s, const char *owner, int count, const char *from,
                                      int hidden, int mixed)
{
    const char *names = NULL;
    int i;
    for (i = 0; i < count; i++) {
        const char *name = mtl__share_name(s, owner, "expert", i);
        mtl_column_desc *column = mtl__share_column(s, name, from ? from : mtl__share_inputs(s), hidden);
        if (mixed) {
            column->input.kind = MTL_MIX_EXPERTS;
            column->input.by = mtl__share_inputs(s);
            column->input.per_sequence = s->how.per_sequence;
        }
        names = mtl__share_join(s, names, name);
    }
    return names;
}

static void mtl__share_gate(mtl__share *s, size_t task, const char *experts)
{
    mtl__share_tap(s, task, experts, MTL_MIX_EXPERTS);
    s->tasks[task].tap.by = mtl__share_inputs(s);
}

static void mtl__share_mmoe(mtl__share *s)
{
    const char *experts = mtl__share_experts(s, "", s->how.experts, NULL, s->how.hidden, 0);
    size_t k;
    for (k = 0; k < s->plain->task_count; k++) mtl__share_gate(s, k, experts);
}

/* Experts of all and of each task, at one level or at two: those of the second level read gated ones of the
   first. */
static MTL__RARE void mtl__share_extract(mtl__share *s, int levels)
{
    const char *shared = mtl__share_experts(s, "", s->how.experts, NULL, s->how.hidden, 0), *above = NULL,
        *all = shared;
    size_t k;
    for (k = 0; k < s->plain->task_count && levels > 1; k++) {
        const char *task = mtl__share_name(s, s->plain->tasks[k].name, "-low-", -1);
        all = mtl__share_join(s, all, mtl__share_experts(s, task, s->how.own_experts, NULL, s->how.hidden,
                                                         0));
    }
    if (levels > 1) above = mtl__share_experts(s, "high-", s->how.experts, all, s->how.hidden, 1);
    for (k = 0; k < s->plain->task_count; k++) {
        const char *task = mtl__share_name(s, s->plain->tasks[k].name, "-", -1), *low = NULL, *own;
        int i;
        for (i = 0; levels > 1 && i < s->how.own_experts; i++)
            low = mtl__share_join(s, low, mtl__share_name(s, task, "low-expert", i));
        own = mtl__share_experts(s, task, s->how.own_experts, low ? mtl__share_join(s, low, shared) : NULL,
                                 s->how.hidden, levels > 1);
        mtl__share_gate(s, k, mtl__share_join(s, own, levels > 1 ? above : shared));
    }
}
static void mtl__share_cgc(mtl__share *s) { mtl__share_extract(s, 1); }
static void mtl__share_ple(mtl__share *s) { mtl__share_extract(s, 2); }

static void mtl__share_penalty(mtl__share *s, const char *name, int kind, const char *a, const char *b,
                               float weight)
{
    mtl_penalty_desc *penalty = &s->penalties[s->out->penalty_count];
    penalty->name = mtl__share_name(s, name, "", (int)(s->out->penalty_count++ - s->plain->penalty_count));
    penalty->kind = kind;
    penalty->a = a;
    penalty->b = b;
    penalty->weight = weight;
}

/* A column a task; every two of them are kept alike. */
static void mtl__share_soft(mtl__share *s)
{
    size_t k, other;
    for (k = 0; k < s->plain->task_count; k++) {
        const char *own = mtl__share_name(s, s->plain->tasks[k].name, "-own", -1);
        mtl__share_column(s, own, mtl__share_inputs(s), s->how.own_hidden);
        mtl__share_tap(s, k, own, MTL_MIX_CONCAT);
        for (other = 0; other < k; other++)
            mtl__share_penalty(s, "tie", MTL_PENALTY_TIE, s->columns[other].name, own, s->how.tie);
    }
}

static void mtl__share_adversarial(mtl__share *s)
{
    const size_t count = s->plain->task_count;
    mtl_task_desc *origin = &s->tasks[count];
    size_t k;
    mtl__share_partial(s);
    for (k = 0; k < count; k++)
        mtl__share_penalty(s, "apart", MTL_PENALTY_ORTHOGONAL, "shared", s->columns[k + 1].name,
                           s->how.orthogonal);
    origin->name = "origin";
    origin->kind = MTL_TASK_ORIGIN;
    origin->classes = s->how.sets;
    origin->weight = s->how.adversary;
    origin->pool = MTL_POOL_MEAN;
    mtl__share_tap(s, count, "shared", MTL_MIX_REVERSAL);
    s->out->task_count++;
    if (s->how.sets < 2)
        mtl__fail(s->err, MTL_ERROR_FIELD, "share.sets", s->how.sets, "share.sets is %d; adversarial sharing "
                  "tells data sets apart: give two of them at least (mtl train: --data for each)",
                  s->how.sets);
}

static int mtl__share_votes(const mtl_task_desc *task)
{
    return task->level == MTL_LEVEL_SEQUENCE && mtl_task_kind_of(task)->distribution;
}

static void mtl__share_stack(mtl__share *s)
{
    const char *votes = NULL, *from;
    size_t k, readers = 0;
    mtl__share_full(s);
    for (k = 0; k < s->plain->task_count; k++) {
        if (!mtl__share_votes(&s->tasks[k])) continue;
        s->tasks[k].per_step = 1;
        votes = mtl__share_join(s, votes, mtl__share_name(s, s->tasks[k].name, ".probabilities", -1));
    }
    from = votes ? mtl__share_join(s, s->columns[0].name, votes) : NULL;
    for (k = 0; from && k < s->plain->task_count; k++) {
        if (s->tasks[k].level != MTL_LEVEL_STEP) continue;
        mtl__share_tap(s, k, from, MTL_MIX_CONCAT);
        s->tasks[k].tap.stop = s->how.stopped ? votes : NULL;
        readers++;
    }
    if (!readers)
        mtl__fail(s->err, MTL_ERROR_FIELD, "share", -1,
                  "stacked tasks are a class task of sequences at least, and one of steps that reads it");
}

/* In the order of MTL_SHARE_*. */
static void (*const mtl__shares[])(mtl__share *) = {
    mtl__share_full, mtl__share_none, mtl__share_partial, mtl__share_gated, mtl__share_hierarchical,
    mtl__share_cross_stitch, mtl__share_levels, mtl__share_mmoe, mtl__share_cgc, mtl__share_ple,
    mtl__share_soft, mtl__share_adversarial, mtl__share_stack
};

/* What every preset starts from, and room for what it may add. */
static void mtl__share_begin(mtl__share *s)
{
    const mtl_model_desc *plain = s->plain;
    const size_t inputs = plain->input_count * plain->task_count;
    const size_t penalties = plain->penalty_count + plain->task_count * plain->task_count;
    size_t k;
    for (k = 0; k < plain->task_count; k++)
        if (plain->tasks[k].tap.from || plain->column_count)
            mtl__fail(s->err, MTL_ERROR_FIELD, "share", -1,
                      "sharing presets start from `encoder` and tasks without taps; " "%s has one",
                          plain->column_count ? "the desc has columns" : plain->tasks[k].name);
    if (plain->task_count < 2 && s->how.kind != MTL_SHARE_FULL && s->how.kind != MTL_SHARE_NONE)
        mtl__fail(s->err, MTL_ERROR_FIELD, "share", -1,
                  "there is one task, with which nothing can be shared");
    s->room = ((size_t)s->how.experts + 2 * (size_t)s->how.own_experts + 2 + 64) * (plain->task_count + 2);
    s->inputs = (mtl_input_desc *)mtl__arena_make(s->arena, inputs, sizeof *s->inputs, "inputs", s->err);
    s->columns = (mtl_column_desc *)mtl__arena_make(s->arena, s->room, sizeof *s->columns, "columns", s->err);
    s->tasks = (mtl_task_desc *)mtl__arena_make(s->arena, plain->task_count + 1, sizeof *s->tasks, "tasks",
                                                s->err);
    s->penalties = (mtl_penalty_desc *)mtl__arena_make(s->arena, penalties, sizeof *s->penalties, "penalties",
                                                       s->err);
    if (mtl__failed(s->err)) return;
    if (plain->penalty_count)
        memcpy(s->penalties, plain->penalties, plain->penalty_count * sizeof *s->penalties);
    memcpy(s->inputs, plain->inputs, plain->input_count * sizeof *s->inputs);
    memcpy(s->tasks, plain->tasks, plain->task_count * sizeof *s->tasks);
}

MTL_DEF MTL__RARE mtl_status mtl_share(const mtl_share_desc *how, const mtl_model_desc *plain,
                                       mtl_model_desc *out, mtl_arena *arena, mtl_error *err)
{
    mtl_error own;
    mtl__share s;
    memset(&s, 0, sizeof s);
    s.err = err = mtl__error_given(err, &own);
    if (!mtl__given(plain, "plain", err) || !mtl__given(out, "out", err) || !mtl__given(arena, "arena", err))
        return mtl__status(err);
    if (how) s.how = *how;
    s.plain = plain;
    s.arena = arena;
    *out = *plain;
    s.out = out;
    if (mtl_desc_check(MTL_DESC_SHARE, &s.how, "share", err)) return mtl__status(err);
    mtl__share_begin(&s);
    if (mtl__failed(err)) return mtl__status(err);
    out->inputs = s.inputs;
    out->columns = s.columns;
    out->tasks = s.tasks;
    out->penalties = s.penalties;
    mtl__shares[s.how.kind - MTL_SHARE_FULL](&s);
    return mtl__status(err);
}

/* ===========================================================================================================
   22 >>model      create, size, save, load, transfer, import
   ===========================================================================================================
   A model is descs, a parameter set and the structures that the passes walk, all in one arena. It is built by
   one function that runs twice: over a counting arena to size it, over memory to make it. Between trainings
   it is read-only.
   -------------------------------------------------------------------------------------------------------- */
typedef struct mtl__input {
    const mtl_input_kind *kind;
    mtl_input_part part;
    mtl__vocabulary words;
    size_t data;                            /* which of a batch's inputs it reads */
} mtl__input;

typedef struct mtl__column {
    const mtl_column_kind *kind;
    mtl_column_part part;
    mtl__tap tap;
    size_t node, first_state;               /* numbers in the list of nodes, of its first state */
} mtl__column;

typedef struct mtl__note_text {
    struct mtl__note_text *next;
    const char *name, *value;
} mtl__note_text;

struct mtl_model {
    mtl_arena arena;
    void *memory;                           /* malloc's, of mtl_model_create; NULL: the caller's buffer */
    mtl_arena note_arena;                   /* grows: texts that are added later */
    mtl__note_text *notes;
    mtl_model_desc desc;                    /* columns are always filled in, `encoder` is not used */
    mtl_parameters set;
    mtl__node *nodes;                       /* each behind its sources */
    size_t node_count, component_count;     /* connected parts */
    mtl__input *inputs;
    size_t data_count;                      /* inputs of a batch: the first so many, the others read theirs */
    mtl__column *columns;
    mtl__task *tasks;
    mtl__penalty *penalties;
    size_t state_count;                     /* of all columns: states of a carried sequence */
};

/* ---- copying and checking the desc --------------------------------------------------------------------- */

/* The input whose data input number i reads: itself, or one before it. Those that read another one's stand
   behind all others, so that a batch's inputs have the numbers of the model's. */
static size_t mtl__desc_data(const mtl_model_desc *d, size_t i, const char *what, mtl_error *err)
{
    const mtl_input_desc *input = &d->inputs[i];
    size_t k = 0;
    if (!input->reads && i > 0 && d->inputs[i - 1].reads)
        mtl__fail(err, MTL_ERROR_FIELD, what, -1,
                  "%s has data of its own and stands behind one that reads another's; put it first", what);
    if (!input->reads) return i;
    while (k < i && strcmp(d->inputs[k].name, input->reads) != 0) k++;
    if (k == i || d->inputs[k].reads || d->inputs[k].vocabulary != input->vocabulary
        || d->inputs[k].features != input->features)
        mtl__fail(err, MTL_ERROR_FIELD, what, -1,
                  "%s.reads: there is no input \"%s\" before it with data of its own"
                  ", as many words and features",
                  what, input->reads);
    return k;
}

/* `trains` names tasks. */
static void mtl__desc_check_trains(const mtl_model_desc *d, size_t i, mtl_error *err)
{
    const char *names = d->columns[i].trains, *name;
    char where[48], shown[64];
    size_t k, length;
    int part;
    while (names && !mtl__failed(err)) {
        length = mtl__tap_name(&names, &name, &part);
        for (k = 0; k < d->task_count; k++)
            if (strlen(d->tasks[k].name) == length && memcmp(d->tasks[k].name, name, length) == 0) break;
        if (k < d->task_count && !part) continue;
        mtl__copy_text(shown, mtl__at_most(length + 1, sizeof shown), name);
        mtl__print(where, sizeof where, "columns[%z].trains", i);
        mtl__fail(err, MTL_ERROR_FIELD, where, -1, "%s: there is no task named \"%s\"", where, shown);
    }
}

/* The desc with everything it points to, in the model's arena, and what the kinds find wrong with it. */
static mtl_status mtl__model_adopt(mtl_model *model, mtl_error *err)
{
    mtl_model_desc *d = &model->desc;
    char what[48];
    size_t i;
    if (!d->column_count) {
        if (!d->encoder.name) d->encoder.name = "encoder";
        mtl_desc_check(MTL_DESC_COLUMN, &d->encoder, "encoder", err);
        d->columns = &d->encoder;
        d->column_count = 1;
    }
    if (mtl__desc_adopt(MTL_DESC_MODEL, d, &model->arena, "", err)) return mtl__status(err);
    memset(&d->encoder, 0, sizeof d->encoder);
    for (i = 0; i < d->input_count && !mtl__failed(err); i++) {
        mtl_input_desc *input = (mtl_input_desc *)(uintptr_t)&d->inputs[i];
        const mtl_input_kind *kind = mtl__input_kind(input);
        mtl__print(what, sizeof what, "inputs[%z]", i);
        if (kind->check) kind->check(input, what, err);
        (void)mtl__desc_data(d, i, what, err);
    }
    for (i = 0; i < d->column_count && !mtl__failed(err); i++) mtl__desc_check_trains(d, i, err);
    for (i = 0; i < d->task_count && !mtl__failed(err); i++) {
        mtl_task_desc *task = (mtl_task_desc *)(uintptr_t)&d->tasks[i];
        mtl__task_check(task, mtl__print(what, sizeof what, "tasks[%z]", i), err);
    }
    return mtl__status(err);
}

/* Name number i of the desc's inputs, columns and tasks, in this order. */
static const char *mtl__desc_name(const mtl_model_desc *d, size_t i)
{
    if (i < d->input_count) return d->inputs[i].name;
    i -= d->input_count;
    return i < d->column_count ? d->columns[i].name : d->tasks[i - d->column_count].name;
}

static mtl_status mtl__model_check_unique(const mtl_model *model, mtl_error *err)
{
    const mtl_model_desc *d = &model->desc;
    size_t total = d->input_count + d->column_count + d->task_count, i, k;
    for (i = 0; i < total; i++)
        for (k = 0; k < i; k++) {
            const char *name = mtl__desc_name(d, i);
            if (strcmp(name, mtl__desc_name(d, k)) == 0)
                return mtl__fail(err, MTL_ERROR_FIELD, name, -1,
                                 "the name \"%s\" is used twice; inputs, columns and tasks need names of "
                                 "their own", name);
        }
    return MTL_OK;
}

/* ---- building ------------------------------------------------------------------------------------------ */

/* A desc's name and mix by its number among inputs, columns and tasks; the mix of an input is NULL. */
static const mtl_mix_desc *mtl__desc_mix(const mtl_model_desc *d, size_t i)
{
    if (i < d->input_count) return NULL;
    i -= d->input_count;
    return i < d->column_count ? &d->columns[i].input : &d->tasks[i - d->column_count].tap;
}

/* "columns[1].input" or "tasks[0].tap", for messages. */
static const char *mtl__desc_where(const mtl_model_desc *d, size_t i, char *out, size_t size)
{
    i -= d->input_count;
    return i < d->column_count ? mtl__print(out, size, "columns[%z].input", i)
                               : mtl__print(out, size, "tasks[%z].tap", i - d->column_count);
}

/* Number of the desc that has this name, -1: none has. */
static int mtl__desc_find(const mtl_model_desc *d, const char *name, size_t length)
{
    size_t i, total = d->input_count + d->column_count + d->task_count;
    for (i = 0; i < total; i++)
        if (strlen(mtl__desc_name(d, i)) == length && memcmp(mtl__desc_name(d, i), name, length) == 0)
            return (int)i;
    return -1;
}

/* The first of the names in `from` (where: for messages, "columns[1].input") that is not placed yet, -1: all
   are. Errors: a name that no part has, the probabilities of what has none. */
static int mtl__desc_names_wait(const mtl_model_desc *d, const char *from, const char *where,
                                const unsigned char *placed, mtl_error *err)
{
    const size_t before = d->input_count + d->column_count;
    const char *name;
    char shown[64];
    int part, k;
    while (from && !mtl__failed(err)) {
        size_t length = mtl__tap_name(&from, &name, &part);
        k = mtl__desc_find(d, name, length);
        mtl__copy_text(shown, mtl__at_most(length + 1, sizeof shown), name);
        if (k < 0)
            mtl__fail(err, MTL_ERROR_FIELD, where, -1, "%s: there is no input, column or task named \"%s\"",
                      where, shown);
        else if (part && ((size_t)k < before || !mtl__task_kind(&d->tasks[(size_t)k - before])->distribution))
            mtl__fail(err, MTL_ERROR_FIELD, where, -1, "%s: only tasks have probabilities, and not "
                      "those of all kinds; \"%s\" has none", where, shown);
        else if (!placed[k]) return k;
    }
    return -1;
}

/* What desc number i waits for, -1: all that it reads is placed. */
static int mtl__desc_waits_for(const mtl_model_desc *d, size_t i, const unsigned char *placed, mtl_error *err)
{
    const mtl_mix_desc *mix = mtl__desc_mix(d, i);
    const size_t last = d->input_count + d->column_count - 1;
    char where[48], by[64];
    int k;
    if (!mix) return -1;
    mtl__desc_where(d, i, where, sizeof where);
    k = mtl__desc_names_wait(d, mix->from, where, placed, err);
    if (k >= 0) return k;
    /* by default a column takes the inputs and a task the last column: numbered before them, but perhaps
       waiting */
    if (!mix->from && i > last && !placed[last]) return (int)last;
    return mtl__desc_names_wait(d, mix->by, mtl__print(by, sizeof by, "%s.by", where), placed, err);
}

/* Parts that wait for one another: the way from desc number i back to itself, "a <- b <- a". */
static void mtl__desc_fail_circle(const mtl_model_desc *d, size_t i, const unsigned char *placed,
                                  mtl_error *err)
{
    size_t total = d->input_count + d->column_count + d->task_count, n, used;
    char text[256];
    size_t start;
    /* into the circle, and to the first of the desc's parts in it */
    for (n = 0; n < total; n++) i = (size_t)mtl__desc_waits_for(d, i, placed, err);
    for (start = i, n = 0; n < total; n++) {
        i = (size_t)mtl__desc_waits_for(d, i, placed, err);
        if (i < start) start = i;
    }
    i = start;
    mtl__print(text, sizeof text, "%s", mtl__desc_name(d, i));
    do {
        i = (size_t)mtl__desc_waits_for(d, i, placed, err);
        used = strlen(text);
        mtl__print(text + used, sizeof text - used, " <- %s", mtl__desc_name(d, i));
    } while (i != start);
    mtl__fail(err, MTL_ERROR_FIELD, mtl__desc_name(d, i), -1,
              "these parts take their rows from one another in a circle: %s", text);
}

static void mtl__node_directions(mtl__node *node, size_t directions)
{
    size_t i;
    node->segment_count = directions;
    for (i = 0; i < directions; i++) {
        node->segments[i].width = node->width[0] / directions;
        node->segments[i].begin = i * node->segments[i].width;
        node->segments[i].reverse = i == 1;
    }
}

static void mtl__model_build_input(mtl_model *model, size_t i, mtl__node *node, mtl_error *err)
{
    mtl__input *input = &model->inputs[i];
    const mtl_input_desc *d = input->part.desc = &model->desc.inputs[i];
    input->kind = mtl__input_kind(d);
    input->data = mtl__desc_data(&model->desc, i, "", err);
    input->kind->build(&input->part, &model->set, err);
    model->data_count += input->data == i;
    if (input->data != i) input->part.scaling = model->inputs[input->data].part.scaling;
    if (d->words) mtl__vocabulary_init(&input->words, d->words, (size_t)d->vocabulary, &model->arena, err);
    node->level = MTL_LEVEL_STEP;
    node->width[0] = input->part.width;
    mtl__node_directions(node, 1);
}

static void mtl__model_build_column(mtl_model *model, size_t i, mtl__node *node, mtl_error *err)
{
    mtl__column *column = &model->columns[i];
    const mtl_column_desc *d = column->part.desc = &model->desc.columns[i];
    size_t k;
    char where[48];
    column->node = model->node_count;
    column->kind = mtl__column_kind(d);
    mtl__desc_where(&model->desc, model->desc.input_count + i, where, sizeof where);
    column->tap.mix.desc = &d->input;
    column->tap.mix.owner = d->name;
    column->tap.mix.level = MTL_LEVEL_STEP;
    if (mtl__tap_build(&column->tap, model->nodes, model->node_count, 0, model->desc.input_count, &model->set,
                       where, err))
        return;
    column->part.inputs = column->tap.mix.width;
    column->kind->build(&column->part, &model->set, err);
    for (k = node->first_tensor; k < model->set.count; k++) model->set.tensors[k]->rate = d->rate;
    column->first_state = model->state_count;
    model->state_count += column->part.states;
    node->level = MTL_LEVEL_STEP;
    node->width[0] = column->part.width;
    mtl__node_directions(node, column->part.directions);
}

static void mtl__model_build_task(mtl_model *model, size_t i, mtl__node *node, mtl_error *err)
{
    mtl__task *task = &model->tasks[i];
    const mtl_task_desc *d = &model->desc.tasks[i];
    const size_t last = model->desc.column_count - 1;
    char where[48];
    task->node = model->node_count;
    mtl__desc_where(&model->desc, model->desc.input_count + model->desc.column_count + i, where,
                    sizeof where);
    task->tap.mix.desc = &d->tap;
    task->tap.mix.owner = d->name;
    task->tap.mix.level = mtl__task_level(d);
    if (mtl__tap_build(&task->tap, model->nodes, model->node_count, model->columns[last].node, 1, &model->set,
                       where, err))
        return;
    mtl__task_build(task, d, &model->set, err);
    node->level = mtl__task_level(d);
    node->width[0] = task->part.outputs;
    node->width[1] = task->part.width;
    mtl__node_directions(node, 1);
}

/* Desc number i becomes the next node. */
static void mtl__model_add_node(mtl_model *model, size_t i, mtl_error *err)
{
    const mtl_model_desc *d = &model->desc;
    mtl__node *node = &model->nodes[model->node_count];
    node->name = mtl__desc_name(d, i);
    node->part = i < d->input_count ? MTL__NODE_INPUT
        : i < d->input_count + d->column_count ? MTL__NODE_COLUMN : MTL__NODE_HEAD;
    node->index = i - (node->part > MTL__NODE_INPUT ? d->input_count : 0)
        - (node->part > MTL__NODE_COLUMN ? d->column_count : 0);
    node->first_tensor = model->set.count;
    if (node->part == MTL__NODE_INPUT) mtl__model_build_input(model, node->index, node, err);
    else if (node->part == MTL__NODE_COLUMN) mtl__model_build_column(model, node->index, node, err);
    else mtl__model_build_task(model, node->index, node, err);
    node->tensor_count = model->set.count - node->first_tensor;
    node->component = model->node_count++;
}

/* Penalties name parts of the list; placed: all are. */
static void mtl__model_build_penalties(mtl_model *model, const unsigned char *placed, mtl_error *err)
{
    const mtl_model_desc *d = &model->desc;
    char what[48];
    size_t i, k;
    model->penalties = (mtl__penalty *)mtl__arena_make(&model->arena, d->penalty_count,
                                                       sizeof *model->penalties, "penalties", err);
    for (i = 0; i < d->penalty_count && !mtl__failed(err); i++) {
        mtl__penalty *p = &model->penalties[i];
        const mtl_penalty_desc *of = p->part.desc = &d->penalties[i];
        p->kind = mtl__penalty_kind(of);
        mtl__print(what, sizeof what, "penalties[%z]", i);
        for (k = 0; k < i && strcmp(of->name, d->penalties[k].name) != 0; k++) {}
        if (k < i || mtl__desc_find(d, of->name, strlen(of->name)) >= 0)
            mtl__fail(err, MTL_ERROR_FIELD, of->name, -1, "%s: the name \"%s\" is used twice", what,
                      of->name);
        if (!of->a || (p->kind->parts > 1) != (of->b != NULL))
            mtl__fail(err, MTL_ERROR_FIELD, what, -1, "%s (%s) must name %s", what, p->kind->kind.name,
                      p->kind->parts > 1 ? "a and b" : "a, and no b");
        for (k = 0; p->kind->of_rows && k < (size_t)p->kind->parts && !mtl__failed(err); k++) {
            mtl__desc_names_wait(d, k ? of->b : of->a, what, placed, err);
            if (mtl__tap_names(k ? of->b : of->a) != 1)
                mtl__fail(err, MTL_ERROR_FIELD, what, -1, "%s: a and b name one part each", what);
        }
        if (!mtl__failed(err))
            mtl__penalty_build(p, model->nodes, model->node_count, &model->set, what, err);
    }
}

/* The list of nodes: repeatedly the first of inputs, columns and tasks whose sources are all in it. */
static void mtl__model_build_nodes(mtl_model *model, mtl_error *err)
{
    const mtl_model_desc *d = &model->desc;
    const size_t total = d->input_count + d->column_count + d->task_count;
    unsigned char *placed = (unsigned char *)mtl__arena_make(&model->arena, total, 1, "nodes", err);
    size_t i;
    model->nodes = (mtl__node *)mtl__arena_make(&model->arena, total, sizeof *model->nodes, "nodes", err);
    model->inputs = (mtl__input *)mtl__arena_make(&model->arena, d->input_count, sizeof *model->inputs,
                                                  "inputs", err);
    model->columns =
        (mtl__column *)mtl__arena_make(&model->arena, d->column_count, sizeof *model->columns, "columns",
                                       err);
    model->tasks = (mtl__task *)mtl__arena_make(&model->arena, d->task_count, sizeof *model->tasks, "tasks",
                                                err);
    while (model->node_count < total && !mtl__failed(err)) {
        for (i = 0; i < total && (placed[i] || mtl__desc_waits_for(d, i, placed, err) >= 0); i++) {}
        if (mtl__failed(err)) return;
        if (i < total) {
            mtl__model_add_node(model, i, err);
            placed[i] = 1;
        } else {
            for (i = 0; placed[i]; i++) {}
            mtl__desc_fail_circle(d, i, placed, err);
        }
    }
    if (!mtl__failed(err)) mtl__model_build_penalties(model, placed, err);
}

/* Two parts that are connected are one: the higher number becomes the lower one. */
static void mtl__model_connect(mtl_model *model, size_t a, size_t b)
{
    size_t low = mtl__at_most(a, b), high = a + b - low, i;
    for (i = 0; i < model->node_count; i++)
        if (model->nodes[i].component == high) model->nodes[i].component = low;
}

/* Parts of the model that nothing connects are clipped apart and have dropout streams of their own, so that
   the labels of a task in one of them change no bit of the others. */
static void mtl__model_components(mtl_model *model)
{
    size_t i, k;
    for (i = 0; i < model->node_count; i++) {
        const mtl__node *node = &model->nodes[i];
        const mtl__tap *tap = node->part == MTL__NODE_COLUMN ? &model->columns[node->index].tap
            : node->part == MTL__NODE_HEAD ? &model->tasks[node->index].tap : NULL;
        for (k = 0; tap && k < tap->mix.count + tap->by_count; k++)
            mtl__model_connect(model, node->component,
                               model->nodes[tap->sources[k] / MTL__NODE_PARTS].component);
    }
    for (i = 0; i < model->desc.penalty_count; i++) {
        const mtl__penalty *p = &model->penalties[i];
        if (p->kind->parts > 1)
            mtl__model_connect(model, model->nodes[p->nodes[0]].component,
                               model->nodes[p->nodes[1]].component);
    }
    for (i = 0; i < model->node_count; i++) {
        mtl__node *node = &model->nodes[i];
        if (node->component >= model->component_count) {        /* the first node of a part: it gets the next
                                                                   number */
            const size_t was = node->component;
            for (k = i; k < model->node_count; k++)
                if (model->nodes[k].component == was) model->nodes[k].component = model->component_count;
            model->component_count++;
        }
        for (k = 0; k < node->tensor_count; k++)
            model->set.tensors[node->first_tensor + k]->component = node->component;
    }
}

/* Everything but values. `arena` is the model's memory, or counts. */
static mtl_model *mtl__model_build(mtl_arena *arena, const mtl_model_desc *desc, mtl_error *err)
{
    mtl_model *model = (mtl_model *)mtl__arena_make(arena, 1, sizeof *model, "a model", err);
    if (!model) return NULL;
    model->arena = *arena;
    model->desc = *desc;
    mtl_arena_init(&model->note_arena, NULL, 0, NULL);
    mtl_parameters_init(&model->set, &model->arena);
    if (mtl__model_adopt(model, err) || mtl__model_check_unique(model, err)) return NULL;
    mtl__model_build_nodes(model, err);
    if (!mtl__failed(err)) mtl__model_components(model);
    if (!mtl__failed(err)) mtl_parameters_allocate(&model->set, err);
    *arena = model->arena;
    return mtl__failed(err) ? NULL : model;
}

static int mtl__model_desc_given(const mtl_model_desc *desc, mtl_error *err)
{
    if (mtl__failed(err)) return 0;
    if (!desc) mtl__fail(err, MTL_ERROR_ARGUMENT, "desc", -1, "desc is NULL");
    else if (!desc->inputs || !desc->input_count)
        mtl__fail(err, MTL_ERROR_FIELD, "inputs", 0, "inputs: a model needs one input at least");
    else if (!desc->tasks || !desc->task_count)
        mtl__fail(err, MTL_ERROR_FIELD, "tasks", 0, "tasks: a model needs one task at least");
    else if (desc->column_count && !desc->columns)
        mtl__fail(err, MTL_ERROR_FIELD, "columns", -1, "columns is NULL but column_count is not 0");
    else if (desc->penalty_count && !desc->penalties)
        mtl__fail(err, MTL_ERROR_FIELD, "penalties", -1, "penalties is NULL but penalty_count is not 0");
    return !mtl__failed(err);
}

MTL_DEF size_t mtl_model_size(const mtl_model_desc *desc, mtl_error *err)
{
    mtl_error own;
    mtl_arena counting, shadow;
    err = mtl__error_given(err, &own);
    if (!mtl__model_desc_given(desc, err)) return 0;
    mtl__arena_init_counting(&counting, &shadow);
    (void)mtl__model_build(&counting, desc, err);
    mtl_arena_destroy(&shadow);
    return mtl__failed(err) ? 0 : counting.high_water;
}

MTL_DEF mtl_status mtl_model_prepare(mtl_model *model, mtl_error *err)
{
    mtl_error own;
    err = mtl__error_given(err, &own);
    return mtl__given(model, "model", err) ? mtl_parameters_prepare(&model->set, MTL_ISA_AUTO, err)
        : mtl__status(err);
}

/* A model in the caller's memory, its values all zero: given by mtl_parameters_randomise or read from a
   file. */
static mtl_model *mtl__model_place(void *buffer, size_t bytes, size_t need, const mtl_model_desc *desc,
                                   mtl_error *err)
{
    mtl_arena arena;
    if (mtl__check_buffer(buffer, bytes, need, "the model", err)) return NULL;
    mtl_arena_init(&arena, buffer, bytes, NULL);
    return mtl__model_build(&arena, desc, err);
}

MTL_DEF mtl_model *mtl_model_init(void *buffer, size_t bytes, const mtl_model_desc *desc, mtl_error *err)
{
    mtl_error own;
    mtl_model *model;
    err = mtl__error_given(err, &own);
    model = mtl__model_place(buffer, bytes, mtl_model_size(desc, err), desc, err);
    if (!model) return NULL;
    mtl_parameters_randomise(&model->set, model->desc.seed);
    mtl_model_prepare(model, err);
    return model;
}

/* malloc's memory aligned to 64; *start is what free wants. */
static void *mtl__allocate_aligned(size_t bytes, void **start)
{
    unsigned char *memory = (unsigned char *)MTL_MALLOC(bytes + MTL__ALIGNMENT);
    *start = memory;
    return memory ? memory + (MTL__ALIGNMENT - (uintptr_t)memory % MTL__ALIGNMENT) % MTL__ALIGNMENT : NULL;
}

/* A model of `bytes` bytes (mtl_model_size) in malloc's memory, without values: drawing initial ones takes
   most of the time of a creation, which the reader of a file would spend for nothing. */
static mtl_model *mtl__model_allocate(const mtl_model_desc *desc, size_t bytes, mtl_error *err)
{
    mtl_model *model;
    void *memory, *aligned;
    if (mtl__failed(err)) return NULL;
    aligned = mtl__allocate_aligned(bytes, &memory);
    if (!aligned) {
        mtl__fail_memory(err, "the model", bytes);
        return NULL;
    }
    model = mtl__model_place(aligned, bytes, bytes, desc, err);
    if (model) model->memory = memory;
    else MTL_FREE(memory);
    return model;
}

MTL_DEF mtl_model *mtl_model_create(const mtl_model_desc *desc, mtl_error *err)
{
    mtl_error own;
    mtl_model *model;
    err = mtl__error_given(err, &own);
    model = mtl__model_allocate(desc, mtl_model_size(desc, err), err);
    if (!model) return NULL;
    mtl_parameters_randomise(&model->set, model->desc.seed);
    mtl_model_prepare(model, err);
    return model;
}

MTL_DEF void mtl_model_destroy(mtl_model *model)
{
    if (!model) return;
    mtl_arena_destroy(&model->note_arena);
    if (model->memory) MTL_FREE(model->memory);
}

/* ---- looking at a model -------------------------------------------------------------------------------- */

MTL_DEF const mtl_model_desc *mtl_model_describe(const mtl_model *model)
{
    return model ? &model->desc : NULL;
}
MTL_DEF mtl_parameters *mtl_model_parameters(mtl_model *model) { return model ? &model->set : NULL; }
MTL_DEF mtl_tensor *mtl_model_tensor(mtl_model *model, const char *name)
{
    return model && name ? mtl_parameters_find(&model->set, name) : NULL;
}

/* Number of a name among `count` of the desc's names from `first` on, or -1. */
static int mtl__model_find_name(const mtl_model *model, size_t first, size_t count, const char *name)
{
    size_t i;
    for (i = 0; name && i < count; i++)
        if (strcmp(mtl__desc_name(&model->desc, first + i), name) == 0) return (int)i;
    return -1;
}

MTL_DEF int mtl_model_task(const mtl_model *model, const char *name)
{
    return model ? mtl__model_find_name(model, model->desc.input_count + model->desc.column_count,
                                        model->desc.task_count, name) : -1;
}

MTL_DEF int mtl_model_input(const mtl_model *model, const char *name)
{
    return model ? mtl__model_find_name(model, 0, model->desc.input_count, name) : -1;
}

/* 1 when `model` is there and `index` is one of its tasks (what: "task") or inputs ("input"). */
static int mtl__model_check_index(const mtl_model *model, const char *what, int index, mtl_error *err)
{
    size_t count;
    if (!mtl__given(model, "model", err)) return 0;
    count = what[0] == 't' ? model->desc.task_count : model->desc.input_count;
    if (index >= 0 && (size_t)index < count) return 1;
    mtl__fail(err, MTL_ERROR_RANGE, what, index, "%s %d is not among the model's %z", what, index, count);
    return 0;
}

MTL_DEF const char *mtl_model_label(const mtl_model *model, int task, int label)
{
    mtl_error own;
    if (!mtl__model_check_index(model, "task", task, mtl__error_given(NULL, &own))) return NULL;
    if (!model->desc.tasks[task].labels || label < 0 || label >= model->desc.tasks[task].classes) return NULL;
    return model->desc.tasks[task].labels[label];
}

MTL_DEF int mtl_model_find_label(const mtl_model *model, int task, const char *name)
{
    mtl_error own;
    if (!mtl__model_check_index(model, "task", task, mtl__error_given(NULL, &own))) return -1;
    return name ? mtl__vocabulary_find(&model->tasks[task].labels, name, strlen(name)) : -1;
}

MTL_DEF int mtl_model_word(const mtl_model *model, int input, const char *word, size_t length)
{
    mtl_error own;
    const mtl_input_desc *d;
    int id;
    if (!mtl__model_check_index(model, "input", input, mtl__error_given(NULL, &own))) return 0;
    d = &model->desc.inputs[input];
    id = mtl__vocabulary_find_normalised(&model->inputs[input].words, word, length, d->lowercase, d->digits);
    return id < 0 ? 0 : id;
}

/* Sets the scaling of an input or a task. */
static mtl_status mtl__scaling_set(mtl_scaling *to, const mtl_real *mean, const mtl_real *scale,
                                   const char *name, mtl_error *err)
{
    size_t j;
    if (mtl__failed(err)) return mtl__status(err);
    if (!to || !to->width || !mean || !scale)
        return mtl__fail(err, MTL_ERROR_ARGUMENT, name, -1, to && to->width
                         ? "%s: mean or scale is NULL" : "%s holds no numbers that could be scaled",
                             name);
    for (j = 0; j < to->width; j++)
        if (!mtl__is_finite(mean[j]) || !mtl__is_finite(scale[j]))
            return mtl__fail(err, MTL_ERROR_NUMBER, name, (long long)j,
                             "%s: mean or scale %z is not a finite number", name, j);
    memcpy(to->mean, mean, to->width * sizeof *mean);
    memcpy(to->scale, scale, to->width * sizeof *scale);
    to->set = 1;
    return MTL_OK;
}

MTL_DEF mtl_status mtl_model_set_feature_scale(mtl_model *model, int input, const mtl_real *mean,
                                               const mtl_real *scale, mtl_error *err)
{
    mtl_error own;
    err = mtl__error_given(err, &own);
    return !mtl__model_check_index(model, "input", input, err) ? mtl__status(err)
         : mtl__scaling_set(model->inputs[input].part.scaling, mean, scale, model->desc.inputs[input].name,
                            err);
}

MTL_DEF mtl_status mtl_model_set_target_scale(mtl_model *model, int task, const mtl_real *mean,
                                              const mtl_real *scale, mtl_error *err)
{
    mtl_error own;
    err = mtl__error_given(err, &own);
    if (mtl__model_check_index(model, "task", task, err))
        mtl__scaling_set(model->tasks[task].scaling, mean, scale, model->desc.tasks[task].name, err);
    return mtl__status(err);
}

static int mtl__scaling_get(const mtl_scaling *of, const mtl_real **mean, const mtl_real **scale)
{
    *mean = of ? of->mean : NULL;
    *scale = of ? of->scale : NULL;
    return of && of->set;
}

MTL_DEF int mtl_model_feature_scale(const mtl_model *model, int input, const mtl_real **mean,
                                    const mtl_real **scale)
{
    mtl_error own;
    return mtl__model_check_index(model, "input", input, mtl__error_given(NULL, &own))
         ? mtl__scaling_get(model->inputs[input].part.scaling, mean, scale) : 0;
}

MTL_DEF int mtl_model_target_scale(const mtl_model *model, int task, const mtl_real **mean,
                                   const mtl_real **scale)
{
    mtl_error own;
    if (!mtl__model_check_index(model, "task", task, mtl__error_given(NULL, &own))) return 0;
    return mtl__scaling_get(model->tasks[task].scaling, mean, scale);
}

MTL_DEF mtl_status mtl_model_transfer(mtl_model *to, const mtl_model *from, size_t *copied, mtl_error *err)
{
    mtl_error own;
    size_t i, count = 0;
    err = mtl__error_given(err, &own);
    if (!mtl__given(to, "to", err) || !mtl__given(from, "from", err)) return mtl__status(err);
    mtl__parameters_settle(&to->set);
    for (i = 0; i < mtl__tensor_count(&to->set); i++) {
        mtl_tensor *t = mtl__tensor_at(&to->set, i);
        const mtl_tensor *f = mtl_parameters_find(&from->set, t->name);
        if (!f || f->dims != t->dims || f->shape[0] != t->shape[0] || f->shape[1] != t->shape[1]
            || !mtl__tensor_is_set(f)) continue;
        memcpy(t->value, f->value, t->count * sizeof *t->value);
        if (t->set) *t->set = 1;
        count++;
    }
    if (copied) *copied = count;
    return mtl_model_prepare(to, err);
}

/* The next tensor from *i on whose name begins with prefix; *i is set behind it. NULL: no more. */
static mtl_tensor *mtl__model_next_with_prefix(const mtl_model *model, const char *prefix, size_t *i)
{
    while (*i < model->set.count) {
        mtl_tensor *t = model->set.tensors[(*i)++];
        if (strncmp(t->name, prefix, strlen(prefix)) == 0) return t;
    }
    return NULL;
}

MTL_DEF size_t mtl_model_freeze(mtl_model *model, const char *prefix, int frozen)
{
    size_t i = 0, count = 0;
    mtl_tensor *t;
    for (; (t = mtl__model_next_with_prefix(model, prefix, &i)) != NULL; count++) t->frozen = frozen != 0;
    return count;
}

MTL_DEF size_t mtl_model_rate(mtl_model *model, const char *prefix, float rate)
{
    size_t i = 0, count = 0;
    mtl_tensor *t;
    for (; (t = mtl__model_next_with_prefix(model, prefix, &i)) != NULL; count++) t->rate = rate;
    return count;
}

static mtl__note_text *mtl__model_find_note(const mtl_model *model, const char *name)
{
    mtl__note_text *n = model->notes;
    while (n && strcmp(n->name, name) != 0) n = n->next;
    return n;
}

MTL_DEF const char *mtl_model_note(mtl_model *model, const char *name, const char *value, mtl_error *err)
{
    mtl_error own;
    mtl__note_text *n = model && name ? mtl__model_find_note(model, name) : NULL;
    err = mtl__error_given(err, &own);
    if (!value || !mtl__given(model, "model", err) || !mtl__given(name, "name", err))
        return n ? n->value : NULL;
    if (mtl_text_valid(name, strlen(name)) != strlen(name) ||
        mtl_text_valid(value, strlen(value)) != strlen(value)) {
        mtl__fail(err, MTL_ERROR_TEXT, "note", -1, "a note's name and text must be UTF-8");
        return NULL;
    }
    if (!n) {
        n = (mtl__note_text *)mtl__arena_make(&model->note_arena, 1, sizeof *n, "a note", err);
        if (!n) return NULL;
        n->name = mtl__arena_text(&model->note_arena, name, err);
        n->next = model->notes;
        if (!n->name) return NULL;
        model->notes = n;
    }
    n->value = mtl__arena_text(&model->note_arena, value, err);
    return n->value;
}


/* ---- states carried between chunks --------------------------------------------------------------------- */

struct mtl_state {
    size_t sequences, state_count;
    mtl_real **h, **c;                      /* [state]: [sequences][H] in the caller's order */
    size_t *units;                          /* [state] */
    mtl_arena arena;
};

MTL_DEF void mtl_state_destroy(mtl_state *state)
{
    mtl_arena arena;
    if (!state) return;
    arena = state->arena;                   /* the state itself lies in it */
    mtl_arena_destroy(&arena);
}

MTL_DEF void mtl_state_reset(mtl_state *state)
{
    size_t i;
    for (i = 0; state && i < state->state_count; i++) {
        memset(state->h[i], 0, state->sequences * state->units[i] * sizeof(mtl_real));
        memset(state->c[i], 0, state->sequences * state->units[i] * sizeof(mtl_real));
    }
}

MTL_DEF MTL__RARE mtl_state *mtl_state_create(const mtl_model *model, size_t sequences, mtl_error *err)
{
    mtl_error own;
    mtl_arena arena;
    mtl_state *state;
    size_t i, l, k = 0, units;
    err = mtl__error_given(err, &own);
    if (!mtl__given(model, "model", err)) return NULL;
    mtl_arena_init(&arena, NULL, 0, NULL);
    state = (mtl_state *)mtl__arena_zero(&arena, 1, sizeof *state, "a state", err);
    if (!state) return NULL;
    state->sequences = sequences;
    state->state_count = model->state_count;
    state->h = (mtl_real **)mtl__arena_zero(&arena, model->state_count, sizeof *state->h, "a state", err);
    state->c = (mtl_real **)mtl__arena_zero(&arena, model->state_count, sizeof *state->c, "a state", err);
    state->units = (size_t *)mtl__arena_zero(&arena, model->state_count, sizeof *state->units, "a state",
                                             err);
    for (i = 0; i < model->node_count && !mtl__failed(err); i++)
        for (l = 0; model->nodes[i].part == MTL__NODE_COLUMN
             && l < model->columns[model->nodes[i].index].part.states && !mtl__failed(err); l++, k++) {
            units = state->units[k] = model->columns[model->nodes[i].index].part.state_units[l];
            state->h[k] = (mtl_real *)mtl__arena_zero(&arena, sequences * units, sizeof(mtl_real), "a state",
                                                      err);
            state->c[k] = (mtl_real *)mtl__arena_zero(&arena, sequences * units, sizeof(mtl_real), "a state",
                                                      err);
        }
    state->arena = arena;
    if (!mtl__failed(err)) return state;
    mtl_arena_destroy(&arena);
    return NULL;
}

/* Rows of a state, in packed order; no gradient goes into them. */
static mtl_activation *mtl__state_rows(mtl_run *run, const mtl_real *rows, size_t units)
{
    const mtl_packing *p = run->packing;
    mtl_activation *a = mtl_run_activation(run, NULL, p->sequences, units);
    size_t b;
    if (!a) return NULL;
    a->constant = 1;
    for (b = 0; !mtl__dry(run) && b < p->sequences; b++)
        memcpy(a->value + b * a->stride, rows + (size_t)p->order[b] * units, units * sizeof *rows);
    return a;
}

static void mtl__state_keep(const mtl_run *run, const mtl_activation *a, mtl_real *rows, size_t units)
{
    const mtl_packing *p = run->packing;
    size_t b;
    for (b = 0; a && !mtl__dry(run) && b < p->sequences; b++)
        memcpy(rows + (size_t)p->order[b] * units, a->value + b * a->stride, units * sizeof *rows);
}

/* ---- the forward pass that training and prediction share ----------------------------------------------- */

static mtl_activation *mtl__input_forward(mtl_run *run, const mtl__input *input, const mtl_input *data)
{
    static const mtl_input nothing = { NULL, NULL };
    const mtl_input_desc *d = input->part.desc;
    const mtl_space *space = &run->packing->space[MTL_LEVEL_STEP];
    mtl_activation *x = input->kind->forward(run, &input->part, mtl__dry(run) ? &nothing : data);
    return mtl__dropout_layer(run, d->dropout, d->dropout_per_sequence
                              ? mtl__space_sequences(space) : mtl__space_items(space), x, "");
}

/* States carried into a column and out. Cells that read from the end begin with zeros: what follows the chunk
   is not known, and their state of the chunk before is what they made of words further left. */
static void mtl__column_states_in(mtl_run *run, const mtl__column *column, mtl_column_pass *p,
                                  const mtl_state *state)
{
    const size_t apart = column->part.directions;   /* of two cells that read forward */
    const size_t count = column->part.states, first = column->first_state;
    mtl_cell_state *initial = (mtl_cell_state *)mtl_run_make(run, count * sizeof *initial);
    size_t i;
    p->initial = initial;
    p->final = (mtl_cell_state *)mtl_run_make(run, count * sizeof *p->final);
    for (i = 0; i < count && !mtl__failed(run->error); i += apart) {
        initial[i].h = mtl__state_rows(run, state->h[first + i], state->units[first + i]);
        initial[i].c = mtl__state_rows(run, state->c[first + i], state->units[first + i]);
    }
}

static void mtl__column_states_out(mtl_run *run, const mtl__column *column, const mtl_column_pass *p,
                                   mtl_state *state)
{
    const size_t apart = column->part.directions, first = column->first_state;
    size_t i;
    for (i = 0; i < column->part.states && !mtl__failed(run->error); i += apart) {
        mtl__state_keep(run, p->final[i].h, state->h[first + i], state->units[first + i]);
        mtl__state_keep(run, p->final[i].c, state->c[first + i], state->units[first + i]);
    }
}

/* How many nodes from number i on, all columns, run beside one another: those of a kind that can, of which
   none reads another. One thread gains nothing from it. */
static size_t mtl__columns_beside(const mtl_run *run, const mtl_model *model, size_t i)
{
    const mtl_column_kind *kind = model->columns[model->nodes[i].index].kind;
    size_t n, k;
    for (n = 1; run->scheduler && kind->forward_beside && i + n < model->node_count
                && model->nodes[i + n].part == MTL__NODE_COLUMN; n++) {
        const mtl__column *next = &model->columns[model->nodes[i + n].index];
        if (next->kind != kind) break;
        for (k = 0; k < next->tap.mix.count + next->tap.by_count; k++)
            if ((size_t)next->tap.sources[k] / MTL__NODE_PARTS >= i) return n;
    }
    return n;
}

/* The column that is node number i and those that run beside it. Returns how many they are. */
static size_t mtl__columns_forward(mtl_run *run, const mtl_model *model, size_t i, mtl_activation **out,
                                   mtl_state *state)
{
    const size_t count = mtl__columns_beside(run, model, i);
    mtl_column_pass *pass = (mtl_column_pass *)mtl_run_make(run, count * sizeof *pass);
    size_t k;
    for (k = 0; pass && k < count; k++) {
        const mtl__node *node = &model->nodes[i + k];
        const mtl__column *column = &model->columns[node->index];
        mtl_column_pass *p = &pass[k];
        p->part = &column->part;
        p->component = run->component = node->component;
        p->x = mtl__tap_forward(run, &column->tap, model->nodes, out);
        p->after = mtl__run_last(run);
        if (state) mtl__column_states_in(run, column, p, state);
        if (mtl__failed(run->error)) return count;
        if (!column->kind->forward_beside)
            p->y = column->kind->forward(run, p->part, p->x, p->initial, p->final);
        else if (k + 1 == count) column->kind->forward_beside(run, pass, count);
    }
    for (k = 0; pass && k < count; k++) {
        const mtl__column *column = &model->columns[model->nodes[i + k].index];
        if (state) mtl__column_states_out(run, column, &pass[k], state);
        out[(i + k) * MTL__NODE_PARTS] = pass[k].y;
    }
    return count;
}

/* A head that others read: its rows of all items, and its distribution where that is wanted. */
static void mtl__head_forward(mtl_run *run, const mtl__task *task, const mtl__node *node,
                              const mtl__node *nodes, mtl_activation **out)
{
    mtl_activation **at = &out[task->node * MTL__NODE_PARTS];
    at[0] = mtl__task_outputs(run, task, nodes, out);
    if (at[0] && node->tapped[1]) at[1] = task->kind->distribution(run, &task->part, at[0]);
}

enum { MTL__STREAMS_APART = 1024 };         /* dropout calls of a part in a micro-batch, at most */

/* All nodes of a batch whose packing is run->packing, but for heads that no tap reads. Returns
   [nodes][parts], NULL when the run failed. */
static mtl_activation **mtl__model_forward(mtl_run *run, const mtl_model *model, const mtl_input *inputs,
                                           mtl_state *state)
{
    mtl_activation **out =
        (mtl_activation **)mtl_run_make(run, model->node_count * MTL__NODE_PARTS * sizeof *out);
    size_t i;
    run->streams = model->component_count < 2 ? NULL
        : (unsigned long long *)mtl_run_make(run, model->component_count * sizeof *run->streams);
    for (i = 0; run->streams && i < model->component_count; i++) run->streams[i] = run->stream;
    if (run->streams) run->stream += MTL__STREAMS_APART;    /* where those of the next micro-batch begin */
    for (i = 0; out && i < model->node_count && !mtl__failed(run->error); i++) {
        const mtl__node *node = &model->nodes[i];
        mtl_activation **at = &out[i * MTL__NODE_PARTS];
        run->component = node->component;
        if (node->part == MTL__NODE_INPUT)
            *at = mtl__input_forward(run, &model->inputs[node->index], inputs
                                     ? &inputs[model->inputs[node->index].data] : NULL);
        else if (node->part == MTL__NODE_COLUMN)
            i += mtl__columns_forward(run, model, i, out, state) - 1;
        else if (node->tapped[0] || node->tapped[1])
            mtl__head_forward(run, &model->tasks[node->index], node, model->nodes, out);
    }
    return mtl__failed(run->error) ? NULL : out;
}

/* 1 when a state was made for this model (cell by cell) and this many sequences. */
static int mtl__state_fits(const mtl_state *state, const mtl_model *model, size_t sequences)
{
    size_t i, l;
    if (state->sequences != sequences || state->state_count != model->state_count) return 0;
    for (i = 0; i < model->desc.column_count; i++) {
        const mtl__column *column = &model->columns[i];
        for (l = 0; l < column->part.states; l++)
            if (state->units[column->first_state + l] != column->part.state_units[l]) return 0;
    }
    return 1;
}

/* Checks lengths, ids and features of a batch or a data set before its packing exists, so that nothing below
   has to. */
static mtl_status mtl__batch_check(const mtl_model *model, const mtl_batch *batch, mtl_error *err)
{
    size_t i, s, row = 0;
    int t;
    if (mtl__failed(err)) return mtl__status(err);
    if (!batch || !batch->lengths || !batch->inputs)
        return mtl__fail(err, MTL_ERROR_ARGUMENT, "batch", -1, "batch%s is NULL", !batch
                         ? "" : !batch->lengths ? ".lengths" : ".inputs");
    if (batch->state && !mtl__state_fits(batch->state, model, batch->sequences))
        return mtl__fail(err, MTL_ERROR_ARGUMENT, "state", (long long)batch->state->sequences,
                         "the batch's state was made for %z sequences or another model; the batch has %z "
                         "sequences", batch->state->sequences, batch->sequences);
    for (i = 0; i < model->data_count; i++)
        if (model->inputs[i].kind->reads_rows ? !batch->inputs[i].rows : !batch->inputs[i].ids)
            return mtl__fail(err, MTL_ERROR_ARGUMENT, model->desc.inputs[i].name, -1, "input %s: %s is NULL",
                             model->desc.inputs[i].name, model->inputs[i].kind->reads_rows ? "rows" : "ids");
    for (s = 0; s < batch->sequences; s++) {
        if (batch->lengths[s] < 1)
            return mtl__fail(err, MTL_ERROR_RANGE, "lengths", (long long)s,
                             "sequence %z has length %d; at least 1 is needed", s, batch->lengths[s]);
        for (t = 0; t < batch->lengths[s]; t++, row++)
            for (i = 0; i < model->data_count; i++) {
                const mtl__input *input = &model->inputs[i];
                if (input->kind->verify && input->kind->verify(&input->part, &batch->inputs[i], row, s, t,
                                                               err))
                    return mtl__status(err);
            }
    }
    return MTL_OK;
}

/* ---- the model file ---------------------------------------------------------------------------------------
   A safetensors file. Tensors: the parameters under their names; buffers that are set, such as the statistics
   that inputs and targets are scaled by, buffers.NAME.mean and .scale; a trainer's moments and counts as
   optimizer.*. Metadata, text to text:
       mtl_rnn.version   "1"            mtl_rnn.config   JSON: inputs, columns, tasks, model        note.NAME
                                                         free texts   */
enum { MTL__FILE_VERSION = 1 };

/* ---- writing ------------------------------------------------------------------------------------------- */

enum { MTL__REAL_TYPE = MTL__REAL_IS_DOUBLE ? MTL_TYPE_F64 : MTL_TYPE_F32 };

static void mtl__entry_set(mtl__tensor_entry *e, const char *name, int type, size_t rows, size_t columns,
                           const void *data)
{
    memset(e, 0, sizeof *e);
    e->name = name;
    e->type = type;
    e->dims = columns ? 2 : 1;
    e->shape[0] = rows;
    e->shape[1] = columns;
    e->data = data;
}

static void mtl__entry_of_tensor(mtl__tensor_entry *e, const char *name, const mtl_tensor *t,
                                 const mtl_real *data)
{
    mtl__entry_set(e, name, MTL__REAL_TYPE, t->shape[0], t->dims == 2 ? t->shape[1] : 0, data);
}

/* Entries of parameters and of buffers that are set; room for `more` further ones. */
static mtl__tensor_entry *mtl__model_entries(const mtl_model *model, size_t more, size_t *count,
                                             mtl_arena *arena, mtl_error *err)
{
    size_t most = mtl__tensor_count(&model->set), n = 0, i;
    mtl__tensor_entry *e = (mtl__tensor_entry *)mtl__arena_zero(arena, most + more, sizeof *e,
                                                                "a file's list of tensors", err);
    if (!e) return NULL;
    mtl__parameters_settle(&model->set);
    for (i = 0; i < most; i++) {
        const mtl_tensor *t = mtl__tensor_at(&model->set, i);
        if (mtl__tensor_is_set(t)) mtl__entry_of_tensor(&e[n++], t->name, t, t->value);
    }
    *count = n;
    return e;
}

/* The file's metadata: version, configuration, notes. */
static const char *const *mtl__model_metadata(const mtl_model *model, const char *config, size_t *count,
                                              mtl_arena *arena, mtl_error *err)
{
    const mtl__note_text *note;
    const char **m;
    char name[512];
    size_t n = 2;
    for (note = model->notes; note; note = note->next) n++;
    m = (const char **)mtl__arena_zero(arena, 2 * n, sizeof *m, "a file's metadata", err);
    if (!m) return NULL;
    m[0] = "mtl_rnn.version";
    m[1] = mtl__arena_text(arena, mtl__print(name, sizeof name, "%d", MTL__FILE_VERSION), err);
    m[2] = "mtl_rnn.config";
    m[3] = config;
    for (n = 2, note = model->notes; note; note = note->next, n++) {
        m[2 * n] = mtl__arena_text(arena, mtl__print(name, sizeof name, "note.%s", note->name), err);
        m[2 * n + 1] = note->value;
    }
    *count = n;
    return m;
}

/* Writes a model file whose tensors are `entries`. */
static mtl_status mtl__model_write_entries(const mtl_model *model, const mtl__tensor_entry *entries,
                                           size_t count, const mtl_writer *writer, mtl_arena *arena,
                                               mtl_error *err)
{
    mtl__text config;
    const char *const *metadata;
    size_t pairs = 0;
    if (mtl__failed(err)) return mtl__status(err);
    mtl__text_init(&config, NULL);
    mtl__json_open(&config, '{');
    mtl__desc_write(&config, MTL_DESC_MODEL, &model->desc);
    mtl__json_close(&config, '}');
    mtl__text_append(&config, "", 1);
    mtl__text_check(&config, "the configuration", err);
    metadata = mtl__failed(err) ? NULL : mtl__model_metadata(model, config.data, &pairs, arena, err);
    if (!mtl__failed(err)) mtl__safetensors_write(entries, count, metadata, pairs, writer, err);
    mtl__text_free(&config);
    return mtl__status(err);
}

/* Tensors that stand in a model's file beside its own: a trainer's. NULL: none. */
typedef struct mtl__further {
    const void *owner;
    size_t count;
    void (*entries)(const void *owner, mtl__tensor_entry *entries, mtl_arena *arena, mtl_error *err);
} mtl__further;

static MTL__RARE mtl_status mtl__model_write(const mtl_model *model, const mtl__further *more,
                                             const mtl_writer *writer, mtl_error *err)
{
    mtl_arena arena;
    mtl__tensor_entry *entries;
    size_t count = 0, further = more ? more->count : 0;
    if (!mtl__given(model, "model", err) || !mtl__given(writer, "writer", err)) return mtl__status(err);
    mtl_arena_init(&arena, NULL, 0, NULL);
    entries = mtl__model_entries(model, further, &count, &arena, err);
    if (entries && more) more->entries(more->owner, entries + count, &arena, err);
    mtl__model_write_entries(model, entries, count + further, writer, &arena, err);
    mtl_arena_destroy(&arena);
    return mtl__status(err);
}

/* To a path, atomically. */
static mtl_status mtl__model_save(const mtl_model *model, const mtl__further *more, const char *path,
                                  mtl_error *err)
{
    mtl__file_writer saver;
    mtl_writer writer;
    if (!mtl__given(model, "model", err) || !mtl__given(path, "path", err)
        || mtl__file_save_begin(path, &writer, &saver, err))
        return mtl__status(err);
    mtl__model_write(model, more, &writer, err);
    return mtl__file_save_end(path, &saver, err);
}

MTL_DEF mtl_status mtl_model_save(const mtl_model *model, const char *path, mtl_error *err)
{
    mtl_error own;
    return mtl__model_save(model, NULL, path, mtl__error_given(err, &own));
}

/* ---- reading ------------------------------------------------------------------------------------------- */

/* How many numbers stand before the first that is not finite. Blocks of a fixed size, without a branch for
   each number, are what compilers turn into vector code: all of a model's weights come through here before
   its first answer. */
static size_t mtl__finite_count(const mtl_real *x, size_t count)
{
    enum { BLOCK = 64 };
    size_t done = 0, i;
    for (; count - done >= BLOCK; done += BLOCK) {
        unsigned wrong = 0;
        for (i = 0; i < BLOCK; i++) wrong |= (unsigned)!mtl__is_finite(x[done + i]);
        if (wrong) break;
    }
    while (done < count && mtl__is_finite(x[done])) done++;
    return done;
}

/* A tensor of the file into values of the model: of this shape, and every element finite. */
static void mtl__read_tensor(const mtl_safetensors *file, const char *name, size_t rows, size_t columns,
                             mtl_real *out, mtl_error *err)
{
    const mtl_safetensor *t = mtl_safetensors_find(file, name);
    size_t i;
    if (mtl__failed(err)) return;
    if (!t)
        mtl__fail(err, MTL_ERROR_TENSOR, name, -1, "the file has no tensor %s", name);
    else if (t->dims != (columns ? 2 : 1) || t->shape[0] != rows || (columns && t->shape[1] != columns))
        mtl__fail(err, MTL_ERROR_TENSOR, name, -1,
                  columns ? "tensor %s must have the shape [%z, %z]" : "tensor %s must have the shape [%z]",
                      name, rows, columns);
    else
        mtl_safetensor_values(t, out, err);
    if (mtl__failed(err)) return;
    i = mtl__finite_count(out, t->count);
    if (i < t->count)
        mtl__fail(err, MTL_ERROR_NUMBER, name, (long long)i, "tensor %s: element %z is not a finite number",
                  name, i);
}

/* Buffers that the file does not have stay as they begin; of those with one `set` it has all or none. */
static void mtl__model_read_values(mtl_model *model, const mtl_safetensors *file, mtl_error *err)
{
    size_t i;
    for (i = 0; i < mtl__tensor_count(&model->set) && !mtl__failed(err); i++) {
        mtl_tensor *t = mtl__tensor_at(&model->set, i);
        if (t->role == MTL_TENSOR_BUFFER) mtl__tensor_fill(t, model->desc.seed);
        if (!mtl__tensor_is_set(t) && !mtl_safetensors_find(file, t->name)) continue;
        mtl__read_tensor(file, t->name, t->shape[0], t->dims == 2 ? t->shape[1] : 0, t->value, err);
        if (t->set) *t->set = 1;
    }
    for (i = 0; i < file->metadata_count && !mtl__failed(err); i++)
        if (strncmp(file->metadata[2 * i], "note.", 5) == 0)
            (void)mtl_model_note(model, file->metadata[2 * i] + 5, file->metadata[2 * i + 1], err);
}

/* Checks that the file is one of ours and returns its configuration. */
static const char *mtl__model_config_text(const mtl_safetensors *file, mtl_error *err)
{
    const char *version = mtl_safetensors_metadata(file, "mtl_rnn.version"),
               *config = mtl_safetensors_metadata(file, "mtl_rnn.config");
    double number;
    if (mtl__failed(err)) return NULL;
    if (!version || !config)
        mtl__fail(
            err, MTL_ERROR_FORMAT, "mtl_rnn.config", -1,
            "the file holds tensors but no mtl_rnn configuration: it was written by another program; "
            "mtl_model_import can take its weights");
    else if (!mtl_text_number(version, strlen(version), &number) || number < 1)
        mtl__fail(err, MTL_ERROR_FORMAT, "mtl_rnn.version", -1, "the file's version \"%s\" is not a number",
                  version);
    else if (number > MTL__FILE_VERSION)
        mtl__fail(err, MTL_ERROR_VERSION, "mtl_rnn.version", (long long)number,
                  "the file is of version %s; this program reads up to version %d: use a newer mtl_rnn.h",
                      version,
                  MTL__FILE_VERSION);
    return mtl__failed(err) ? NULL : config;
}

/* Bytes of the configuration's model; 0 when the file has no stored weight for every parameter, before memory
   is taken. */
static size_t mtl__model_size_of_file(const mtl_model_desc *desc, const mtl_safetensors *file, mtl_error *err)
{
    size_t bytes = mtl_model_size(desc, err), stored = 0, i;
    for (i = 0; i < file->count; i++) stored += file->tensors[i].count * sizeof(mtl_real);
    if (!mtl__failed(err) && bytes / 64 > stored + 65536)
        mtl__fail(err, MTL_ERROR_FORMAT, "mtl_rnn.config", (long long)bytes,
                  "the configuration describes a model of %z bytes, but the file holds weights of %z bytes",
                      bytes, stored);
    return mtl__failed(err) ? 0 : bytes;
}

/* The desc of a configuration. The model's numbers stand in it, or in files of earlier versions in
   "model". */
static void mtl__config_read(const mtl__desc_reader *r, const mtl__json *root, mtl_model_desc *desc)
{
    const mtl__desc *d = &mtl__descs[MTL_DESC_MODEL];
    memset(desc, 0, sizeof *desc);
    mtl__desc_read(r, MTL_DESC_MODEL, root, desc);
    mtl__desc_read_numbers(d->fields, d->count, mtl__json_get(root, "model"), desc, r->err);
}

static mtl_model *mtl__model_of_file(const mtl_safetensors *file, const mtl_load_desc *how, mtl_error *err)
{
    mtl_model *model = NULL;
    mtl_model_desc desc;
    mtl_arena arena;
    mtl__desc_reader reader;
    const char *config = mtl__model_config_text(file, err);
    const mtl__json *root;
    size_t bytes;
    if (!config) return NULL;
    mtl_arena_init(&arena, NULL, 0, NULL);
    root = mtl__json_parse(config, strlen(config), "the configuration", 0, &arena, err);
    reader.arena = &arena;
    reader.kinds = how ? how->kinds : NULL;
    reader.kind_count = how ? how->kind_count : 0;
    reader.err = err;
    if (root) mtl__config_read(&reader, root, &desc);
    if (root && !mtl__failed(err) && (bytes = mtl__model_size_of_file(&desc, file, err)) > 0)
        model = mtl__model_allocate(&desc, bytes, err);
    if (model) {
        mtl__model_read_values(model, file, err);
        mtl_model_prepare(model, err);
    }
    mtl_arena_destroy(&arena);
    if (model && mtl__failed(err)) {
        mtl_model_destroy(model);
        model = NULL;
    }
    return model;
}

MTL_DEF mtl_model *mtl_model_load_memory_with(const void *bytes, size_t count, const mtl_load_desc *how,
                                              mtl_error *err)
{
    mtl_error own;
    mtl_safetensors file;
    mtl_model *model;
    err = mtl__error_given(err, &own);
    if (mtl_safetensors_open_memory(&file, bytes, count, err)) return NULL;
    model = mtl__model_of_file(&file, how, err);
    mtl_safetensors_close(&file);
    return model;
}

MTL_DEF mtl_model *mtl_model_load_with(const char *path, const mtl_load_desc *how, mtl_error *err)
{
    mtl_error own;
    mtl_safetensors file;
    mtl_model *model;
    err = mtl__error_given(err, &own);
    if (mtl_safetensors_open(&file, path, err)) return NULL;
    model = mtl__model_of_file(&file, how, err);
    mtl_safetensors_close(&file);
    return model;
}

MTL_DEF mtl_model *mtl_model_read_with(const mtl_reader *reader, const mtl_load_desc *how, mtl_error *err)
{
    mtl_error own;
    mtl_model *model = NULL;
    mtl__text bytes;
    err = mtl__error_given(err, &own);
    if (!mtl__given(reader, "reader", err)) return NULL;
    mtl__text_init(&bytes, NULL);
    if (!mtl__text_read(&bytes, reader, "the model file", err))
        model = mtl_model_load_memory_with(bytes.data, bytes.length, how, err);
    mtl__text_free(&bytes);
    return model;
}

MTL_DEF mtl_model *mtl_model_load(const char *path, mtl_error *err)
{
    return mtl_model_load_with(path, NULL, err);
}
MTL_DEF mtl_model *mtl_model_load_memory(const void *bytes, size_t count, mtl_error *err)
{
    return mtl_model_load_memory_with(bytes, count, NULL, err);
}
MTL_DEF mtl_model *mtl_model_read(const mtl_reader *reader, mtl_error *err)
{
    return mtl_model_read_with(reader, NULL, err);
}

/* ---- weights from and to other programs ---------------------------------------------------------------- */

/* What `name` has in the place of the pattern's '*' (at its end, when it has none); NULL when it does not
   fit. */
static const char *mtl__pattern_rest(const char *pattern, const char *name, size_t *length)
{
    const char *star = strchr(pattern, '*');
    size_t before = star ? (size_t)(star - pattern) : strlen(pattern), after = star ? strlen(star + 1) : 0,
        all = strlen(name);
    if (all < before + after || memcmp(name, pattern, before) != 0 ||
        (after && strcmp(name + all - after, star + 1) != 0))
        return NULL;
    *length = all - before - after;
    return name + before;
}

/* The file's name for a model tensor under one mapping, into out; 0 when the mapping is about other
   tensors. */
static int mtl__import_name(const mtl_import *map, const char *name, char *out, size_t size)
{
    const char *from = map->from ? map->from : "", *star = strchr(from, '*');
    char rest[160], before[160];
    size_t length;
    const char *found = mtl__pattern_rest(map->to ? map->to : "", name, &length);
    if (!found || length >= sizeof rest) return 0;
    memcpy(rest, found, length);
    rest[length] = '\0';
    length = star ? (size_t)(star - from) : strlen(from);
    mtl__copy_text(before, mtl__at_most(length + 1, sizeof before), from);
    mtl__print(out, size, "%s%s%s", before, rest, star ? star + 1 : "");
    return 1;
}

/* The first mapping that fits a tensor of the model, with the file's name for it in `out`; `count`: none
   does. */
static size_t mtl__import_mapping(const mtl_import *mappings, size_t count, const char *name, char *out,
                                  size_t size)
{
    size_t k;
    for (k = 0; k < count && !mtl__import_name(&mappings[k], name, out, size);) k++;
    return k;
}

/* Tensors as one text: "a (no b in the file), c (file 5x4, model 6x4), and 3 more". */
typedef struct mtl__tensor_list {
    size_t count, shown;
    char first[96], text[360];
} mtl__tensor_list;

static void mtl__tensor_list_add(mtl__tensor_list *list, const char *name, const char *more)
{
    size_t used = strlen(list->text);
    if (!list->count++) mtl__copy_text(list->first, sizeof list->first, name);
    if (used + strlen(name) + strlen(more) + 32 > sizeof list->text) return;        /* 32: for what ends it */
    list->shown++;
    mtl__print(list->text + used, sizeof list->text - used, "%s%s%s", used ? ", " : "", name, more);
}
static const char *mtl__tensor_list_end(mtl__tensor_list *list)
{
    size_t used = strlen(list->text);
    if (list->count > list->shown)
        mtl__print(list->text + used, sizeof list->text - used, "%s%z more", used ? ", and " : "",
                   list->count - list->shown);
    return list->text;
}

/* Adds a tensor of the model that does not match what the file has under `name`. */
static void mtl__import_mismatch(mtl__tensor_list *wrong, const mtl_tensor *t, const char *name,
                                 const mtl_safetensor *from)
{
    char more[640];
    if (!from)
        mtl__print(more, sizeof more, " (no %s in the file)", name);
    else if (from->type > MTL_TYPE_BF16)
        mtl__print(more, sizeof more, " (file: %s, read are F32, F64, F16, BF16)",
                   mtl__types[from->type].name);
    else
        mtl__print(more, sizeof more, " (file %zx%z, model %zx%z)", from->dims ? from->shape[0] : 1,
                   from->dims > 1 ? from->shape[1] : 1, t->shape[0], t->shape[1]);
    mtl__tensor_list_add(wrong, t->name, more);
}

/* One pass over all mapped tensors: lists mismatches, or copies. Returns how many the mappings name, without
   buffers that the file does not have and that no mapping is made for. */
static size_t mtl__import_pass(mtl_model *model, const mtl_safetensors *file, const mtl_import *mappings,
                               size_t count, mtl__tensor_list *wrong, mtl_error *err)
{
    size_t i, k, found = 0;
    char name[512];
    for (i = 0; i < mtl__tensor_count(&model->set); i++) {
        mtl_tensor *t = mtl__tensor_at(&model->set, i);
        const mtl_safetensor *from;
        k = mtl__import_mapping(mappings, count, t->name, name, sizeof name);
        if (k == count) continue;
        from = mtl_safetensors_find(file, name);
        if (!from && t->role == MTL_TENSOR_BUFFER &&
            !(mappings[k].to && strncmp(mappings[k].to, "buffers.", 8) == 0))
            continue;
        found++;
        if (!wrong) {
            mtl_safetensor_values(from, t->value, err);
            if (t->set) *t->set = 1;
        } else if (!from || from->type > MTL_TYPE_BF16 || from->dims != t->dims ||
                 from->shape[0] != t->shape[0] || (t->dims == 2 && from->shape[1] != t->shape[1]))
            mtl__import_mismatch(wrong, t, name, from);
    }
    return found;
}

/* Every mapping must be the first that fits some tensor of the model. */
static mtl_status mtl__import_check_mappings(const mtl_model *model, const mtl_import *mappings, size_t count,
                                             mtl_error *err)
{
    const mtl_parameters *set = &model->set;
    mtl__tensor_list unnamed;
    char name[512];
    size_t i, k;
    memset(&unnamed, 0, sizeof unnamed);
    for (i = 0; i < mtl__tensor_count(set); i++)
        if (mtl__import_mapping(mappings, count, mtl__tensor_at(set, i)->name, name, sizeof name) == count)
            mtl__tensor_list_add(&unnamed, mtl__tensor_at(set, i)->name, "");
    for (k = 0; k < count && !mtl__failed(err); k++) {
        for (i = 0; i < mtl__tensor_count(set); i++)
            if (mtl__import_mapping(mappings, count, mtl__tensor_at(set, i)->name, name, sizeof name) == k)
                break;
        if (i == mtl__tensor_count(set))
            mtl__fail(err, MTL_ERROR_TENSOR, "mappings", (long long)k,
                      "mappings[%z]: no tensor of the model fits \"%s\"%s%s", k, mappings[k].to
                          ? mappings[k].to : "", unnamed.count ? "; those that no mapping fits: "
                                                                          : ", as earlier mappings take all "
                                                                            "of them",
                      mtl__tensor_list_end(&unnamed));
    }
    if (!count) mtl__fail(err, MTL_ERROR_TENSOR, "mappings", -1, "the mappings name no tensor of the model");
    return mtl__status(err);
}

/* 1: a mapping's `from` fits this tensor of the file, and no tensor of the model takes it. */
static int mtl__import_is_left(const mtl_model *model, const char *name, const mtl_import *mappings,
                               size_t count)
{
    char own[512], back[512];
    size_t k, length;
    int fits = 0;
    for (k = 0; k < count; k++) {
        mtl_import turned;
        turned.from = mappings[k].to;
        turned.to = mappings[k].from;
        if (!mtl__pattern_rest(turned.to ? turned.to : "", name, &length)) continue;
        fits = 1;
        if (mtl__import_name(&turned, name, own, sizeof own) && mtl_parameters_find(&model->set, own) &&
            mtl__import_mapping(mappings, count, own, back, sizeof back) == k)
            return 0;
    }
    return fits;
}

/* part: 0: what is left of the file is an error. */
static MTL__RARE mtl_status mtl__import(mtl_model *model, const mtl_safetensors *file,
                                        const mtl_import *mappings, size_t count, int part,
                                        mtl_import_result *result, mtl_error *err)
{
    mtl__tensor_list wrong, left;
    size_t i;
    memset(result, 0, sizeof *result);
    memset(&wrong, 0, sizeof wrong);
    memset(&left, 0, sizeof left);
    if (!mtl__given(model, "model", err) || !mtl__given(file, "file", err)) return mtl__status(err);
    if (mtl__import_check_mappings(model, mappings, count, err)) return mtl__status(err);
    result->taken = mtl__import_pass(model, file, mappings, count, &wrong, err);
    if (wrong.count)
        return mtl__fail(err, MTL_ERROR_TENSOR, wrong.first, (long long)wrong.count,
                         "%z tensors do not match: %s", wrong.count, mtl__tensor_list_end(&wrong));
    for (i = 0; i < file->count; i++)
        if (mtl__import_is_left(model, file->tensors[i].name, mappings, count))
            mtl__tensor_list_add(&left, file->tensors[i].name, "");
    result->left = left.count;
    mtl__copy_text(result->left_names, sizeof result->left_names, mtl__tensor_list_end(&left));
    if (left.count && !part)
        return mtl__fail(err, MTL_ERROR_TENSOR, left.first, (long long)left.count,
                         "%z tensors of the file fit a mapping, but the model has no tensors for them: %s; "
                         "give the model what they belong to or use mtl_model_import_part", left.count,
                             left.text);
    mtl__import_pass(model, file, mappings, count, NULL, err);
    return mtl_model_prepare(model, err);
}

MTL_DEF mtl_status mtl_model_import(mtl_model *model, const mtl_safetensors *file, const mtl_import *mappings,
                                    size_t count, mtl_error *err)
{
    mtl_import_result result;
    mtl_error own;
    return mtl__import(model, file, mappings, count, 0, &result, mtl__error_given(err, &own));
}

MTL_DEF mtl_status mtl_model_import_part(mtl_model *model, const mtl_safetensors *file,
                                         const mtl_import *mappings, size_t count, mtl_import_result *result,
                                             mtl_error *err)
{
    mtl_import_result mine;
    mtl_error own;
    return mtl__import(model, file, mappings, count, 1, result ? result : &mine, mtl__error_given(err, &own));
}

MTL_DEF MTL__RARE mtl_status mtl_model_export(const mtl_model *model, const char *path,
                                              const mtl_import *mappings, size_t count, mtl_error *err)
{
    static const mtl_import everything = { "", "" };
    mtl_error own;
    mtl__file_writer saver;
    mtl_writer writer;
    mtl_arena arena;
    mtl__tensor_entry *entries;
    size_t i, k, n = 0;
    char name[512];
    err = mtl__error_given(err, &own);
    if (!mtl__given(model, "model", err) || !mtl__given(path, "path", err)) return mtl__status(err);
    if (!count) { mappings = &everything; count = 1; }
    mtl__parameters_settle(&model->set);
    mtl_arena_init(&arena, NULL, 0, NULL);
    entries = (mtl__tensor_entry *)mtl__arena_zero(&arena, mtl__tensor_count(&model->set), sizeof *entries,
                                                   "a file's list of tensors", err);
    for (i = 0; entries && i < mtl__tensor_count(&model->set); i++)
        for (k = 0; k < count; k++) {
            const mtl_tensor *t = mtl__tensor_at(&model->set, i);
            if (!mtl__tensor_is_set(t) || !mtl__import_name(&mappings[k], t->name, name, sizeof name))
                continue;
            mtl__entry_of_tensor(&entries[n++], mtl__arena_text(&arena, name, err), t, t->value);
            break;
        }
    if (!mtl__failed(err) && !mtl__file_save_begin(path, &writer, &saver, err)) {
        mtl__safetensors_write(entries, n, NULL, 0, &writer, err);
        mtl__file_save_end(path, &saver, err);
    }
    mtl_arena_destroy(&arena);
    return mtl__status(err);
}

/* ===========================================================================================================
   23 >>session    what trainers and predictors have in common: scratch, limits, threads, the run
   ===========================================================================================================
   A session is the first member of both, so a pointer to one is a pointer to its session. `build` makes what
   is special about the object and `measure` walks its passes dry; so each is sized, put into a caller's
   buffer or created by the same three functions.
   -------------------------------------------------------------------------------------------------------- */
/* Limits that a caller set at creation: within them nothing is allocated. */
typedef struct mtl__limits { size_t rows, sequences, steps; } mtl__limits;

static mtl__limits mtl__limits_of(size_t max_rows, size_t max_sequences, size_t max_steps)
{
    mtl__limits l;
    l.rows = max_rows;
    l.sequences = max_sequences && max_sequences < max_rows ? max_sequences : max_rows;
    l.steps = max_steps && max_steps < max_rows ? max_steps : max_rows;
    return l;
}

static mtl_status mtl__limits_check(const mtl__limits *limits, const mtl_packing *p, mtl_error *err)
{
    if (mtl__failed(err) || !limits->rows) return mtl__status(err);
    if (p->rows > limits->rows)
        return mtl__fail(err, MTL_ERROR_LIMIT, "max_rows", (long long)p->rows,
                         "the batch has %z rows; max_rows was %z", p->rows, limits->rows);
    if (p->sequences > limits->sequences)
        return mtl__fail(err, MTL_ERROR_LIMIT, "max_sequences", (long long)p->sequences,
                         "the batch has %z sequences; max_sequences was %z", p->sequences, limits->sequences);
    if (p->steps > limits->steps)
        return mtl__fail(err, MTL_ERROR_LIMIT, "max_steps", (long long)p->steps,
                         "the batch has a sequence of %z steps; max_steps was %z", p->steps, limits->steps);
    return MTL_OK;
}

typedef struct mtl__session {
    mtl_arena arena;                        /* the object itself and what it keeps */
    mtl_arena scratch;                      /* emptied at every call */
    mtl_model *model;
    mtl__limits limits;
    int isa;
    mtl__pool *pool;
    const mtl_scheduler *scheduler;         /* the caller's, or the pool's */
    mtl_run run;
} mtl__session;

typedef struct mtl__session_kind {
    const char *name;                       /* "predictor": begins its fields' paths */
    size_t bytes;                           /* of the object */
    int desc;                               /* MTL_DESC_* */
    size_t desc_offset, desc_bytes;         /* where the object keeps its copy */
    void (*build)(mtl__session *session, mtl_arena *arena, mtl_error *err);
    size_t (*measure)(mtl__session *session, mtl_error *err);   /* scratch bytes of the largest batch within
                                                                   the limits */
} mtl__session_kind;

/* The part of `build` that does not differ. */
static void mtl__session_start(mtl__session *s, mtl_arena *arena, int isa, int threads,
                               const mtl_scheduler *scheduler, mtl__limits limits, mtl_error *err)
{
    if (mtl__failed(err)) return;
    if (!mtl__kernels_choose(isa)) {
        mtl__fail(err, MTL_ERROR_UNSUPPORTED, "isa", isa, "this machine has no %s kernels",
                  mtl__isa_name(isa));
        return;
    }
    s->isa = isa;
    s->limits = limits;
    if (threads > 1 && !scheduler) s->pool = mtl__pool_create(arena, threads, err);
    s->scheduler = scheduler ? scheduler : threads > 1 && arena->counting
        ? mtl__pool_dry() : mtl__pool_scheduler(s->pool);
}

/* The object in `arena`: zeroed, with a copy of its desc, checked; then what is special about it. */
static mtl__session *mtl__session_build(const mtl__session_kind *kind, mtl_arena *arena, mtl_model *model,
                                        const void *desc, mtl_error *err)
{
    mtl__session *s = (mtl__session *)mtl__arena_make(arena, 1, kind->bytes, kind->name, err);
    char *copy = (char *)s + kind->desc_offset;
    if (!s) return NULL;
    if (!model) mtl__fail(err, MTL_ERROR_ARGUMENT, "model", -1, "model is NULL");
    s->model = model;
    if (desc) memcpy(copy, desc, kind->desc_bytes);
    mtl_desc_check(kind->desc, copy, kind->name, err);
    if (!mtl__failed(err)) kind->build(s, arena, err);
    return mtl__failed(err) ? NULL : s;
}

static void mtl__session_observe(mtl__session *s, mtl_observer observer, void *user)
{
    s->run.observer = observer;
    s->run.observer_user = user;
}

/* A fresh run over `arena`; the observer stays, and the kernels: asking the processor again at each call
   would take longer, in a virtual machine, than predicting a word. */
static mtl_run *mtl__session_begin(mtl__session *s, mtl_arena *arena, mtl_error *err)
{
    const mtl_run before = s->run;
    if (before.kernels) {
        memset(&s->run, 0, sizeof s->run);
        s->run.kernels = before.kernels;
        s->run.arena = arena;
        s->run.error = err;
    } else {
        (void)mtl_run_init(&s->run, arena, s->isa, err);
    }
    s->run.scheduler = s->scheduler;
    mtl__session_observe(s, before.observer, before.observer_user);
    return &s->run;
}

static size_t mtl__session_size(const mtl__session_kind *kind, mtl_model *model, const void *desc,
                                mtl_error *err)
{
    mtl_arena counting, shadow;
    mtl__session *s;
    size_t bytes = 0;
    char field[48];
    mtl__arena_init_counting(&counting, &shadow);
    s = mtl__session_build(kind, &counting, model, desc, err);
    mtl__print(field, sizeof field, "%s.max_rows", kind->name);
    if (s && !s->limits.rows)
        mtl__fail(err, MTL_ERROR_FIELD, field, 0, "%s must be given to know the size of a %s", field,
                  kind->name);
    if (s && !mtl__failed(err)) bytes = counting.high_water + kind->measure(s, err);
    mtl_arena_destroy(&shadow);
    return mtl__failed(err) ? 0 : bytes;
}

static mtl__session *mtl__session_init(const mtl__session_kind *kind, void *buffer, size_t bytes,
                                       mtl_model *model, const void *desc, mtl_error *err)
{
    size_t need = mtl__session_size(kind, model, desc, err);
    mtl_arena arena;
    mtl__session *s;
    if (mtl__check_buffer(buffer, bytes, need, kind->name, err)) return NULL;
    mtl_arena_init(&arena, buffer, bytes, NULL);
    s = mtl__session_build(kind, &arena, model, desc, err);
    if (!s) return NULL;
    s->arena = arena;
    mtl_arena_init(&s->scratch, (unsigned char *)buffer + arena.used, bytes - arena.used, NULL);
    return s;
}

static void mtl__session_destroy(mtl__session *s)
{
    mtl_arena arena;
    if (!s) return;
    mtl__pool_destroy(s->pool);
    mtl_arena_destroy(&s->scratch);
    arena = s->arena;                       /* the session itself lies in it */
    mtl_arena_destroy(&arena);
}

static mtl__session *mtl__session_create(const mtl__session_kind *kind, mtl_model *model, const void *desc,
                                         mtl_error *err)
{
    mtl_arena arena;
    mtl__session *s;
    mtl_arena_init(&arena, NULL, 0, NULL);
    s = mtl__session_build(kind, &arena, model, desc, err);
    if (!s) {
        mtl_arena_destroy(&arena);
        return NULL;
    }
    s->arena = arena;
    mtl_arena_init(&s->scratch, NULL, 0, NULL);
    if (s->limits.rows) {
        size_t bytes = kind->measure(s, err);
        if (!mtl__failed(err) && !mtl__arena_grow(&s->scratch, bytes))
            mtl__fail_memory(err, kind->name, bytes);
        s->scratch.grows = 0;
    }
    if (!mtl__failed(err)) return s;
    mtl__session_destroy(s);
    return NULL;
}

/* ===========================================================================================================
   24 >>predict    batches of sequences through a read-only model
   ===========================================================================================================
   A predictor is scratch: one per thread over a model that all of them share. Its arena is emptied at each
   call, so what a call returned stays valid until the next one.
   -------------------------------------------------------------------------------------------------------- */
struct mtl_predictor {
    mtl__session session;
    mtl_predictor_desc desc;
};

/* Forward pass and outputs of every task, in run->arena. */
static void mtl__predict_run(mtl_run *run, const mtl_model *model, const mtl_input *inputs, mtl_state *state,
                             mtl_prediction *out)
{
    const uint64_t before = mtl__arithmetic_set();
    mtl_activation **nodes = mtl__model_forward(run, model, inputs, state);
    size_t i;
    for (i = 0; nodes && i < model->desc.task_count && !mtl__failed(run->error); i++) {
        const mtl__task *task = &model->tasks[i];
        memset(&out[i], 0, sizeof out[i]);
        mtl__task_answer(run, task, mtl__task_outputs(run, task, model->nodes, nodes),
                         nodes[task->node * MTL__NODE_PARTS + 1], &out[i]);
    }
    mtl__arithmetic_restore(before);
}

static void mtl__predictor_build(mtl__session *session, mtl_arena *arena, mtl_error *err)
{
    const mtl_predictor_desc *d = &((mtl_predictor *)(void *)session)->desc;
    mtl__session_start(session, arena, d->isa, d->threads, d->scheduler,
                       mtl__limits_of(d->max_rows, d->max_sequences, d->max_steps), err);
}

/* A dry run of the largest batch, with states carried and a text's ids (of mtl_predict_text) beside it. */
static size_t mtl__predictor_measure(mtl__session *session, mtl_error *err)
{
    const mtl_model *model = session->model;
    mtl_arena counting, shadow;
    mtl_state *state = mtl_state_create(model, 0, err);
    mtl_prediction *out;
    mtl_run *run;
    size_t i;
    mtl__arena_init_counting(&counting, &shadow);
    run = mtl__session_begin(session, &counting, err);
    out = (mtl_prediction *)mtl__arena_zero(&shadow, model->desc.task_count, sizeof *out, "outputs", err);
    run->packing = mtl__packing_push(&counting, session->limits.sequences, session->limits.rows,
                                     session->limits.steps, err);
    (void)mtl_run_make(run, model->desc.input_count * sizeof(mtl_input));
    for (i = 0; i < model->desc.input_count; i++) (void)mtl_run_push(run, session->limits.rows * sizeof(int));
    if (!mtl__failed(err)) mtl__predict_run(run, model, NULL, state, out);
    mtl_state_destroy(state);
    mtl_arena_destroy(&shadow);
    return counting.high_water;
}

static const mtl__session_kind mtl__predictor_kind = {
    "predictor", sizeof(mtl_predictor), MTL_DESC_PREDICTOR, offsetof(mtl_predictor, desc),
        sizeof(mtl_predictor_desc),
    mtl__predictor_build, mtl__predictor_measure
};

/* Predictors never write to their model; sessions are built from one that may be written to. */
static mtl_model *mtl__model_of(const mtl_model *model) { return (mtl_model *)(uintptr_t)model; }

MTL_DEF size_t mtl_predictor_size(const mtl_model *model, const mtl_predictor_desc *desc, mtl_error *err)
{
    mtl_error own;
    return mtl__session_size(&mtl__predictor_kind, mtl__model_of(model), desc, mtl__error_given(err, &own));
}

MTL_DEF mtl_predictor *mtl_predictor_init(void *buffer, size_t bytes, const mtl_model *model,
                                          const mtl_predictor_desc *desc, mtl_error *err)
{
    mtl_error own;
    err = mtl__error_given(err, &own);
    return (mtl_predictor *)(void *)mtl__session_init(&mtl__predictor_kind, buffer, bytes,
                                                      mtl__model_of(model), desc, err);
}

MTL_DEF mtl_predictor *mtl_predictor_create(const mtl_model *model, const mtl_predictor_desc *desc,
                                            mtl_error *err)
{
    mtl_error own;
    return (mtl_predictor *)(void *)mtl__session_create(&mtl__predictor_kind, mtl__model_of(model), desc,
                                                        mtl__error_given(err, &own));
}

MTL_DEF void mtl_predictor_destroy(mtl_predictor *predictor)
{
    mtl__session_destroy(predictor ? &predictor->session : NULL);
}

MTL_DEF void mtl_predictor_observe(mtl_predictor *predictor, mtl_observer observer, void *user)
{
    if (predictor) mtl__session_observe(&predictor->session, observer, user);
}

/* Empties the scratch and makes the run of a batch with these lengths. NULL on failure. */
static mtl_run *mtl__predictor_begin(mtl_predictor *predictor, const int *lengths, size_t sequences,
                                     mtl_error *err)
{
    mtl__session *s = &predictor->session;
    mtl_packing *packing;
    mtl_run *run;
    mtl__parameters_settle(&s->model->set);
    mtl__arena_reset(&s->scratch);
    run = mtl__session_begin(s, &s->scratch, err);
    packing = mtl__packing_create(&s->scratch, lengths, sequences, err);
    run->packing = packing;
    return packing && !mtl__limits_check(&s->limits, packing, err) ? run : NULL;
}

MTL_DEF mtl_status mtl_predict(mtl_predictor *predictor, const mtl_batch *batch, mtl_prediction *out,
                               mtl_error *err)
{
    mtl_error own;
    mtl_run *run;
    err = mtl__error_given(err, &own);
    if (!mtl__given(predictor, "predictor", err) || !mtl__given(out, "out", err) ||
        mtl__batch_check(predictor->session.model, batch, err))
        return mtl__status(err);
    run = mtl__predictor_begin(predictor, batch->lengths, batch->sequences, err);
    if (run) mtl__predict_run(run, predictor->session.model, batch->inputs, batch->state, out);
    return mtl__status(err);
}

/* Next word of a text of words with spaces between; *end is set behind it. NULL: no more. */
static const char *mtl__next_word(const char *text, const char **end)
{
    while (*text == ' ') text++;
    for (*end = text; **end && **end != ' ';) ++*end;
    return *end > text ? text : NULL;
}

/* Ids of a sentence's words for one input. */
static void mtl__words_to_ids(const mtl_model *model, int input, const char *text, int *ids)
{
    const char *end, *word;
    size_t n = 0;
    for (word = mtl__next_word(text, &end); word; word = mtl__next_word(end, &end))
        ids[n++] = mtl_model_word(model, input, word, (size_t)(end - word));
}

/* One array of ids per input, of a sentence of `count` words. */
static mtl_input *mtl__text_inputs(mtl_run *run, const mtl_model *model, const char *text, size_t count)
{
    mtl_input *inputs = (mtl_input *)mtl_run_make(run, model->desc.input_count * sizeof *inputs);
    size_t i;
    for (i = 0; inputs && i < model->data_count && !mtl__failed(run->error); i++) {
        int *ids = (int *)mtl_run_push(run, count * sizeof *ids);
        if (!model->inputs[i].words.count)
            mtl__fail(run->error, MTL_ERROR_ARGUMENT, model->desc.inputs[i].name, -1,
                      "input %s has no vocabulary of words", model->desc.inputs[i].name);
        else if (ids) mtl__words_to_ids(model, (int)i, text, ids);
        inputs[i].ids = ids;
    }
    return mtl__failed(run->error) ? NULL : inputs;
}

MTL_DEF mtl_status mtl_predict_text(mtl_predictor *predictor, const char *text, mtl_prediction *out,
                                    size_t *tokens, mtl_error *err)
{
    mtl_error own;
    const char *end, *word;
    size_t count = 0, valid;
    mtl_input *inputs;
    mtl_run *run;
    int length;
    err = mtl__error_given(err, &own);
    if (!mtl__given(predictor, "predictor", err) || !mtl__given(text, "text", err) ||
        !mtl__given(out, "out", err))
        return mtl__status(err);
    valid = mtl_text_valid(text, strlen(text));
    if (text[valid])
        return mtl__fail(err, MTL_ERROR_TEXT, "text", (long long)valid,
                         "the text is not valid UTF-8 at byte %z", valid);
    for (word = mtl__next_word(text, &end); word; word = mtl__next_word(end, &end)) count++;
    if (tokens) *tokens = count;
    if (!count || count > 0x7fffffff) return mtl__fail(err, MTL_ERROR_TEXT, "text", 0,
                                                       "the text has no words");
    length = (int)count;
    run = mtl__predictor_begin(predictor, &length, 1, err);
    inputs = run ? mtl__text_inputs(run, predictor->session.model, text, count) : NULL;
    if (inputs) mtl__predict_run(run, predictor->session.model, inputs, NULL, out);
    return mtl__status(err);
}

/* ===========================================================================================================
   25 >>balance    from the tasks' losses to gradients: their weights, groups of tasks, surgery
   ===========================================================================================================
   The joint loss is sum_k w_k L_k with w_k = lambda_k c_k: lambda_k is the caller's, c_k a method's. A method
   is one row of the table of weightings. It sees the n tasks that have labels in an update; with fewer than
   two all c_k are 1 and its state stays. Discriminators (origin tasks) and penalties stand outside.
       static       c = 1
       initial      c = 1 / L(0)               L(0): the loss of the first update that the method saw
       items        c = items / sequences      of tasks of steps: L, a mean over steps, becomes the sum over a
                                               sequence, in the mean over sequences that have labels
       uncertainty  c = e^-s, numbers: e^-s/2  s descends along d/ds (c L + s/2)        Kendall et al. 2018
       dwa          c = n softmax(r / T)       r: the mean loss of the last window by that of the one before;
                                               T: balance_temperature                        Liu et al. 2019
       random       c = n softmax(z)           z: normal numbers of (seed, update)           Lin et al. 2022
       imtl         c = e^s                    s descends along d/ds (e^s L - s)             Liu et al. 2021
       gradnorm     c = n v / sum v            v descends along d/dv |N - mean N r^alpha|, N: the norm of c
                                               times the task's gradient, r: L / L(0) by its mean
                                                                                             Chen et al. 2018
   What descends does so by the trainer's rule, at balance_rate times its rate.

   This is the only caller of backward passes. One forward pass leaves a tape with the losses of all tasks;
   each group of tasks is one replay of it, into a gradient set of the group's own or into one that groups
   share, where the first write assigns and later ones add. A replay costs the heads of its tasks and the
   shared part once. A group may be kept from writing some tensors, which are then as if frozen.

   Surgery has a group, and a set of gradients, for each task. When all micro-batches have been played,
   tensors that one task reached change hands; of those that several reached the Gram matrix G is taken, a row
   of the table of surgeries makes weights of it, and one gradient is made with these.
   -------------------------------------------------------------------------------------------------------- */

/* ---- weights ------------------------------------------------------------------------------------------- */

/* A task and its weight in an update. */
typedef struct mtl__weighed {
    int outside, numbers, steps;            /* 1: no method weighs it; its targets are numbers; it has an item
                                               a step */
    int labelled;                           /* it trains, and has labels in this update */
    size_t items, sequences;                /* labelled ones; sequences: counted where `steps` is set */
    double lambda, factor;                  /* c_k */
    double weight;                          /* lambda_k c_k */
    double loss;                            /* L_k */
    double norm;                            /* of w_k times its gradient in what tasks share; 0: not known */
    double *state;                          /* [kind->state] */
} mtl__weighed;

typedef struct mtl__weighting {
    const struct mtl__weighting_kind *kind;
    const mtl_trainer_desc *desc;
    mtl__weighed *of;                       /* [tasks] */
    size_t tasks, labelled;                 /* all; those that the method weighs in this update */
    double *state;                          /* [tasks][kind->state] zeros at first; saved with the trainer */
    unsigned long long step;                /* updates before this one */
    size_t window;                          /* of dwa */
    const mtl__kernels *kernels;            /* of what descends: kernels, rule, rate */
    const mtl__update *rule;
    double lr;
} mtl__weighting;

typedef struct mtl__weighting_kind {
    size_t state;                           /* numbers that it keeps of a task */
    int windows, norms;                     /* 1: it compares windows of updates; looks at gradients' norms */
    /* Sets the factor of a task that it weighs, from state: called for each in turn; NULL: 1. */
    double (*factor)(const mtl__weighting *w, size_t k);
    int shares;                             /* 1: factors are exponents, of which a softmax is taken */
    void (*learn)(mtl__weighting *w, mtl__weighed *task);       /* after an update, from its loss; NULL: it
                                                                   does not */
    void (*settle)(mtl__weighting *w);      /* after all have learnt; may be NULL */
} mtl__weighting_kind;

/* 1: the method weighs this task. */
static int mtl__weighs(const mtl__weighed *task) { return task->labelled && !task->outside; }

static MTL__RARE double mtl__initial_factor(const mtl__weighting *w, size_t k)
{
    return w->of[k].state[0] > 0 ? 1 / w->of[k].state[0] : 1;
}
static void mtl__initial_learn(mtl__weighting *w, mtl__weighed *task)
{
    (void)w;
    if (!(task->state[0] > 0)) task->state[0] = task->loss;
}

static MTL__RARE double mtl__items_factor(const mtl__weighting *w, size_t k)
{
    const mtl__weighed *task = &w->of[k];
    return task->steps && task->sequences ? (double)task->items / (double)task->sequences : 1;
}

enum { MTL__DESCENT_STATE = 4 };            /* the number, its first and second moments, its updates */

/* One update of a task's number by the trainer's rule, without decay or clipping. */
static MTL__RARE void mtl__weighting_descend(const mtl__weighting *w, double *state, double slope)
{
    const mtl_real g = (mtl_real)slope;
    mtl__update u = *w->rule;
    mtl_real value[3];
    size_t i;
    state[3] += 1;
    u.first = state[3] == 1;
    u.correction1 = 1 - pow(u.beta1, state[3]);
    u.correction2 = 1 - pow(u.beta2, state[3]);
    u.lr = w->lr * (double)w->desc->balance_rate;
    u.scale = 1;
    u.limit = u.l2 = u.l1 = u.decay = 0;
    for (i = 0; i < 3; i++) value[i] = (mtl_real)state[i];
    w->kernels->update(&u, 1, &value[0], &g, &value[1], &value[2]);
    for (i = 0; i < 3; i++) state[i] = (double)value[i];
}

/* Of a normal distribution with variance e^s, or a softmax at temperature e^s. */
static double mtl__uncertainty_factor(const mtl__weighting *w, size_t k)
{
    return exp(-w->of[k].state[0]) * (w->of[k].numbers ? 0.5 : 1);
}
static void mtl__uncertainty_learn(mtl__weighting *w, mtl__weighed *task)
{
    mtl__weighting_descend(w, task->state, 0.5 - task->factor * task->loss);
}

enum { MTL__DWA_SUM, MTL__DWA_COUNT, MTL__DWA_LAST, MTL__DWA_BEFORE, MTL__DWA_WINDOW, MTL__DWA_STATE };

static double mtl__dwa_factor(const mtl__weighting *w, size_t k)
{
    const double *s = w->of[k].state;
    return (s[MTL__DWA_BEFORE] > 0 ? s[MTL__DWA_LAST] / s[MTL__DWA_BEFORE] : 1)
        / (double)w->desc->balance_temperature;
}
/* A window that ended is closed by the first update behind it that the method sees, which counts itself, too,
   when it is the last of its own. */
static MTL__RARE void mtl__dwa_learn(mtl__weighting *w, mtl__weighed *task)
{
    double *s = task->state;
    const double ended = (double)((w->step + 1) / (unsigned long long)w->window);
    s[MTL__DWA_SUM] += task->loss;
    s[MTL__DWA_COUNT] += 1;
    if (ended <= s[MTL__DWA_WINDOW]) return;
    s[MTL__DWA_WINDOW] = ended;
    s[MTL__DWA_BEFORE] = s[MTL__DWA_LAST];
    s[MTL__DWA_LAST] = s[MTL__DWA_SUM] / s[MTL__DWA_COUNT];
    s[MTL__DWA_SUM] = s[MTL__DWA_COUNT] = 0;
}

enum { MTL__BALANCE_STREAM = 0x62616c };    /* of random numbers; dropout's are counted from 0 */

static double mtl__random_factor(const mtl__weighting *w, size_t k)
{
    return mtl__random_normal(w->desc->seed, MTL__BALANCE_STREAM, w->step * w->tasks + k);
}

static void mtl__imtl_learn(mtl__weighting *w, mtl__weighed *task)
{
    mtl__weighting_descend(w, task->state, task->factor * task->loss - 1);
}
static double mtl__imtl_factor(const mtl__weighting *w, size_t k) { return exp(w->of[k].state[0]); }

/* state: v - 1 and its moments, L(0). */
enum { MTL__GRADNORM_STATE = MTL__DESCENT_STATE + 1 };

static MTL__RARE double mtl__gradnorm_factor(const mtl__weighting *w, size_t k)
{
    double sum = 0;
    size_t i;
    for (i = 0; i < w->tasks; i++) if (mtl__weighs(&w->of[i])) sum += 1 + w->of[i].state[0];
    return (double)w->labelled * (1 + w->of[k].state[0]) / sum;
}
static MTL__RARE void mtl__gradnorm_learn(mtl__weighting *w, mtl__weighed *task)
{
    double norms = 0, left = 0, rate;
    size_t k;
    for (k = 0; k < w->tasks; k++) {
        mtl__weighed *one = &w->of[k];
        if (!mtl__weighs(one)) continue;
        if (!(one->state[MTL__DESCENT_STATE] > 0)) one->state[MTL__DESCENT_STATE] = one->loss;
        norms += one->norm / (double)w->labelled;
        left += one->loss / one->state[MTL__DESCENT_STATE] / (double)w->labelled;
    }
    if (!(task->norm > 0) || !(left > 0)) return;
    rate = pow(task->loss / task->state[MTL__DESCENT_STATE] / left, (double)w->desc->balance_alpha);
    mtl__weighting_descend(w, task->state, (task->norm > norms * rate ? 1 : -1) * task->norm / task->factor);
}
/* All v that learnt add up to their number again, and none is below a thousandth. */
static MTL__RARE void mtl__gradnorm_settle(mtl__weighting *w)
{
    double sum = 0;
    size_t k;
    for (k = 0; k < w->tasks; k++) {
        mtl__weighed *task = &w->of[k];
        if (!mtl__weighs(task)) continue;
        if (task->state[0] < 0.001 - 1) task->state[0] = 0.001 - 1;
        sum += 1 + task->state[0];
    }
    for (k = 0; k < w->tasks; k++)
        if (mtl__weighs(&w->of[k]))
            w->of[k].state[0] = (1 + w->of[k].state[0]) * (double)w->labelled / sum - 1;
}

/* In the order of MTL_BALANCE_NAMES. */
static const mtl__weighting_kind mtl__weighting_kinds[] = {
    { 0, 0, 0, NULL, 0, NULL, NULL },
    { 1, 0, 0, mtl__initial_factor, 0, mtl__initial_learn, NULL },
    { 0, 0, 0, mtl__items_factor, 0, NULL, NULL },
    { MTL__DESCENT_STATE, 0, 0, mtl__uncertainty_factor, 0, mtl__uncertainty_learn, NULL },
    { MTL__DWA_STATE, 1, 0, mtl__dwa_factor, 1, mtl__dwa_learn, NULL },
    { 0, 0, 0, mtl__random_factor, 1, NULL, NULL },
    { MTL__DESCENT_STATE, 0, 0, mtl__imtl_factor, 0, mtl__imtl_learn, NULL },
    { MTL__GRADNORM_STATE, 0, 1, mtl__gradnorm_factor, 0, mtl__gradnorm_learn, mtl__gradnorm_settle }
};

static MTL__RARE mtl_status mtl__weighting_init(mtl__weighting *w, const mtl_trainer_desc *desc, size_t tasks,
                                      mtl_arena *arena, mtl_error *err)
{
    size_t k;
    w->kind = &mtl__weighting_kinds[desc->balance - MTL_BALANCE_STATIC];
    w->desc = desc;
    w->tasks = tasks;
    w->window = (size_t)desc->balance_window;
    w->of = (mtl__weighed *)mtl__arena_make(arena, tasks, sizeof *w->of, "task weights", err);
    w->state = (double *)mtl__arena_make(arena, tasks * w->kind->state, sizeof *w->state, "task weights",
                                         err);
    for (k = 0; k < tasks && !mtl__failed(err); k++) w->of[k].state = w->state + k * w->kind->state;
    return mtl__status(err);
}

/* c = n softmax(exponents) of the n tasks that are weighed. */
static MTL__RARE void mtl__weighting_share(mtl__weighting *w)
{
    double most = -1e300, sum = 0;
    size_t k;
    for (k = 0; k < w->tasks; k++)
        if (mtl__weighs(&w->of[k]) && w->of[k].factor > most) most = w->of[k].factor;
    for (k = 0; k < w->tasks; k++)
        if (mtl__weighs(&w->of[k])) sum += w->of[k].factor = exp(w->of[k].factor - most);
    for (k = 0; k < w->tasks; k++)
        if (mtl__weighs(&w->of[k])) w->of[k].factor *= (double)w->labelled / sum;
}

/* Weights of an update, before its forward pass: lambda, labelled, items and sequences are set. */
static MTL__RARE void mtl__weighting_begin(mtl__weighting *w)
{
    size_t k;
    w->labelled = 0;
    for (k = 0; k < w->tasks; k++) w->labelled += (size_t)mtl__weighs(&w->of[k]);
    for (k = 0; k < w->tasks; k++)
        w->of[k].factor = w->labelled > 1 && w->kind->factor && mtl__weighs(&w->of[k])
            ? w->kind->factor(w, k) : 1;
    if (w->labelled > 1 && w->kind->shares) mtl__weighting_share(w);
    for (k = 0; k < w->tasks; k++) w->of[k].weight = w->of[k].lambda * w->of[k].factor;
}

/* What the method learns from an update that was made. */
static MTL__RARE void mtl__weighting_learn(mtl__weighting *w)
{
    size_t k;
    for (k = 0; k < w->tasks && w->kind->learn && w->labelled > 1; k++)
        if (mtl__weighs(&w->of[k])) w->kind->learn(w, &w->of[k]);
    if (w->labelled > 1 && w->kind->settle) w->kind->settle(w);
}

/* ---- gradients ----------------------------------------------------------------------------------------- */

/* The losses of the tasks that are trained, and penalties: activations L_k, their weights w_k, their tasks k.
   The joint loss is no activation: backward needs its slopes w_k alone. */
typedef struct mtl__losses {
    mtl_activation **value;
    mtl_real *weight;
    size_t *task, count;                    /* behind the tasks stand the penalties */
} mtl__losses;

static void mtl__losses_add(mtl__losses *losses, mtl_activation *value, mtl_real weight, size_t task)
{
    losses->value[losses->count] = value;
    losses->weight[losses->count] = weight;
    losses->task[losses->count++] = task;
}

typedef struct mtl__balance_group {
    mtl_gradients *gradients;               /* what its gradient is added to; NULL: it is not wanted */
    const unsigned char *writes;            /* [tensors] 0: as if frozen for this group; NULL: none is */
} mtl__balance_group;

typedef struct mtl__balance {
    const mtl__balance_group *groups;       /* [count], played in this order */
    size_t count;
    const size_t *group_of;                 /* [tasks + penalties] NULL: all are in groups[0] */
} mtl__balance;

/* Nothing is left in the gradients of any group. */
static void mtl__balance_reset(const mtl__balance *balance)
{
    size_t g;
    for (g = 0; g < balance->count; g++)
        if (balance->groups[g].gradients) mtl__gradients_reset(balance->groups[g].gradients);
}

/* Adds the gradients of the losses of one tape to those of the groups: one replay for each that has a
   loss. */
static void mtl__balance_backward(mtl_run *run, const mtl__balance *balance, const mtl__losses *losses)
{
    size_t g, k, seeded;
    for (g = 0; g < balance->count && !mtl__failed(run->error); g++) {
        const mtl__balance_group *group = &balance->groups[g];
        if (!group->gradients) continue;
        mtl__tape_begin(run);
        for (k = seeded = 0; k < losses->count; k++) {
            if (balance->group_of && balance->group_of[losses->task[k]] != g) continue;
            mtl__tape_seed(run, losses->value[k], losses->weight[k]);
            seeded++;
        }
        if (!seeded) continue;
        group->gradients->writes = group->writes;
        mtl__tape_play(run, group->gradients, MTL_TAPE_ALL);
        group->gradients->writes = NULL;
    }
}

/* ---- surgery: weights out of a Gram matrix ------------------------------------------------------------- */

/* n tasks that share parameters, and what becomes of their gradients. */
typedef struct mtl__surgery_case {
    const mtl_trainer_desc *desc;
    size_t n, tasks;                        /* those of the case; of the model */
    const size_t *task;                     /* [n] which they are, ascending */
    const double *w;                        /* [n] weights of the losses */
    double *gram;                           /* [n][n] of the gradients of L_k, divided by its trace */
    double *weight;                         /* [n] result: of these gradients in the shared one */
    double *state;                          /* [tasks][tasks] of kinds that keep something of pairs */
    uint64_t seed;                          /* of the update */
    double *scratch;                        /* [3 n n + 4 n] */
    size_t *order;                          /* [n] */
} mtl__surgery_case;

/* The other tasks' numbers in random order, into order[n - 1]. */
static MTL__RARE void mtl__surgery_order(const mtl__surgery_case *c, size_t i)
{
    size_t j, n = 0;
    for (j = 0; j < c->n; j++) if (j != i) c->order[n++] = j;
    mtl__random_shuffle(c->order, n, c->seed, c->task[i]);
}

static double mtl__row_product(size_t n, const double *a, const double *b)
{
    double sum = 0;
    size_t k;
    for (k = 0; k < n; k++) sum += a[k] * b[k];
    return sum;
}

/* |sum_k x_k g_k|, with G x in product[n]. */
static MTL__RARE double mtl__gram_length(size_t n, const double *gram, const double *x, double *product)
{
    double square;
    size_t k;
    for (k = 0; k < n; k++) product[k] = mtl__row_product(n, gram + k * n, x);
    square = mtl__row_product(n, x, product);
    return square > 0 ? sqrt(square) : 0;
}

/* What is to be added to g_i' = sum_k row[k] g_k of another task's gradient j: makes the two perpendicular
   where they point against one another. */
static MTL__RARE double mtl__pcgrad_step(mtl__surgery_case *c, size_t i, size_t j, const double *row)
{
    const double product = mtl__row_product(c->n, c->gram + j * c->n, row);
    (void)i;
    return product < 0 ? -product / c->gram[j * c->n + j] : 0;
}

/* The same to a mean cosine, which learns; Wang et al. 2021, equation 4. */
static MTL__RARE double mtl__gradvac_step(mtl__surgery_case *c, size_t i, size_t j, const double *row)
{
    double *mean = &c->state[c->task[i] * c->tasks + c->task[j]], was = *mean;
    const double own = mtl__gram_length(c->n, c->gram, row, c->scratch + c->n);
    const double other = sqrt(c->gram[j * c->n + j]);
    double cosine = own > 0 ? c->scratch[c->n + j] / (own * other) : 0;
    cosine = cosine > 1 ? 1 : cosine < -1 ? -1 : cosine;
    *mean = was + (double)c->desc->surgery_beta * (cosine - was);
    if (cosine >= was || was >= 1) return 0;
    return own / other * (was * sqrt(1 - cosine * cosine) / sqrt(1 - was * was) - cosine);
}

/* Each gradient meets the others one after the other. */
static MTL__RARE void mtl__surgery_meet(mtl__surgery_case *c,
                                        double (*step)(mtl__surgery_case *c, size_t i, size_t j,
                                                       const double *row))
{
    double *row = c->scratch;
    size_t i, k;
    for (i = 0; i < c->n; i++) {
        memset(row, 0, c->n * sizeof *row);
        row[i] = 1;
        mtl__surgery_order(c, i);
        for (k = 0; k + 1 < c->n; k++) row[c->order[k]] += step(c, i, c->order[k], row);
        for (k = 0; k < c->n; k++) c->weight[k] += c->w[i] * row[k];
    }
}
static void mtl__pcgrad_weigh(mtl__surgery_case *c) { mtl__surgery_meet(c, mtl__pcgrad_step); }
static void mtl__gradvac_weigh(mtl__surgery_case *c) { mtl__surgery_meet(c, mtl__gradvac_step); }

/* min x' Q x / 2 + b' x over x >= 0, and with `sums` x_1 + .. + x_n = 1; Q = factor G + ridge. By sets of
   free variables (Lawson & Hanson 1974, Wolfe 1976). */
typedef struct mtl__program {
    size_t n, free_count;
    const double *gram, *b;
    double factor, ridge;
    int sums;
    double *x, *l, *y, *z;                  /* [n], [n][n], [n], [n] */
    size_t *free;                           /* [n] */
} mtl__program;

/* b = L^-T L^-1 b, in place. */
static MTL__RARE void mtl__cholesky_solve(const double *l, size_t n, size_t count, double *b)
{
    size_t i, k;
    for (i = 0; i < count; i++) b[i] = (b[i] - mtl__row_product(i, l + i * n, b)) / l[i * n + i];
    for (i = count; i-- > 0; b[i] /= l[i * n + i])
        for (k = i + 1; k < count; k++) b[i] -= l[k * n + i] * b[k];
}

/* The minimum over free variables without their bounds, into y; returns the multiplier of their sum. */
static MTL__RARE double mtl__program_free(mtl__program *p)
{
    const size_t count = p->free_count;
    double y = 0, z = 0, multiplier;
    size_t i, j;
    for (i = 0; i < count; i++) {
        const double *gram = p->gram + p->free[i] * p->n;
        double *row = p->l + i * p->n, pivot;
        for (j = 0; j < i; j++)
            row[j] = (p->factor * gram[p->free[j]] - mtl__row_product(j, row, p->l + j * p->n))
                / p->l[j * p->n + j];
        pivot = p->factor * gram[p->free[i]] + p->ridge - mtl__row_product(i, row, row);
        row[i] = sqrt(pivot > 1e-14 ? pivot : 1e-14);
        p->y[i] = -p->b[p->free[i]];
        p->z[i] = 1;
    }
    mtl__cholesky_solve(p->l, p->n, count, p->y);
    if (!p->sums) return 0;
    mtl__cholesky_solve(p->l, p->n, count, p->z);
    for (i = 0; i < count; i++) y += p->y[i], z += p->z[i];
    multiplier = (1 - y) / z;
    for (i = 0; i < count; i++) p->y[i] += multiplier * p->z[i];
    return multiplier;
}

/* From x towards y, as far as no variable becomes negative; the one that stops it is free no longer. Returns
   whether y was reached. */
static MTL__RARE int mtl__program_step(mtl__program *p)
{
    double share = 1;
    size_t i, stop = p->free_count;
    for (i = 0; i < p->free_count; i++) {
        const double x = p->x[p->free[i]];
        if (p->y[i] >= 0 || x >= share * (x - p->y[i])) continue;
        share = x / (x - p->y[i]);
        stop = i;
    }
    for (i = 0; i < p->free_count; i++) p->x[p->free[i]] += share * (p->y[i] - p->x[p->free[i]]);
    if (stop == p->free_count) return 1;
    p->x[p->free[stop]] = 0;
    p->free[stop] = p->free[--p->free_count];
    return 0;
}

/* The bound variable that the minimum would gain most from, or n. */
static MTL__RARE size_t mtl__program_worst(const mtl__program *p, double multiplier)
{
    double least = -1e-12;
    size_t i, worst = p->n;
    for (i = 0; i < p->n; i++) {
        const double slope = p->factor * mtl__row_product(p->n, p->gram + i * p->n, p->x)
            + p->ridge * p->x[i] + p->b[i] - multiplier;
        if (p->x[i] > 0 || slope >= least) continue;
        least = slope;
        worst = i;
    }
    return worst;
}

static MTL__RARE void mtl__program_solve(mtl__program *p)
{
    size_t i, next, round;
    memset(p->x, 0, p->n * sizeof *p->x);
    p->free_count = 0;
    if (p->sums) {                          /* begin with the best single one */
        for (i = next = 0; i < p->n; i++)
            if (p->factor * p->gram[i * p->n + i] / 2 + p->b[i]
                < p->factor * p->gram[next * p->n + next] / 2 + p->b[next]) next = i;
        p->x[next] = 1;
        p->free[p->free_count++] = next;
    }
    for (round = 0; round < 10 * p->n + 10; round++) {      /* far fewer, but for rounding */
        const double multiplier = mtl__program_free(p);
        if (!mtl__program_step(p)) continue;
        next = mtl__program_worst(p, multiplier);
        if (next == p->n) return;
        p->free[p->free_count++] = next;
    }
}

/* Over a case's Gram matrix; scratch: n behind `used` for b, then n n + 3 n. */
static MTL__RARE void mtl__program_init(mtl__program *p, const mtl__surgery_case *c, double *b, int sums)
{
    const size_t n = c->n;
    p->n = n;
    p->gram = c->gram;
    p->b = b;
    p->factor = 1;
    p->ridge = 0;
    p->sums = sums;
    p->x = b + n;
    p->y = p->x + n;
    p->z = p->y + n;
    p->l = p->z + n;
    p->free = c->order;
    memset(b, 0, n * sizeof *b);
}

static MTL__RARE void mtl__mgda_weigh(mtl__surgery_case *c)
{
    mtl__program p;
    size_t k;
    mtl__program_init(&p, c, c->scratch, 1);
    mtl__program_solve(&p);
    for (k = 0; k < c->n; k++) c->weight[k] = (double)c->n * p.x[k];
}

/* For each task min v' G v with v_i >= w_i and all others >= 0, where v = w_i e_i + x. */
static MTL__RARE void mtl__upgrad_weigh(mtl__surgery_case *c)
{
    mtl__program p;
    size_t i, k;
    mtl__program_init(&p, c, c->scratch, 0);
    p.ridge = 1e-4;                         /* as their package: of the trace */
    for (i = 0; i < c->n; i++) {
        for (k = 0; k < c->n; k++)
            c->scratch[k] = c->w[i] * (c->gram[i * c->n + k] + (k == i ? p.ridge : 0));
        mtl__program_solve(&p);
        for (k = 0; k < c->n; k++) c->weight[k] += p.x[k];
        c->weight[i] += c->w[i];
    }
}

/* With g_0 = sum_k w_k g_k / n: min over convex combinations g_v of g_0 g_v + c |g_0| |g_v|, then n times
   g_0 + c |g_0| g_v / |g_v|. For numbers h, |g_v| = min (|g_v|^2 / h + h) / 2, so there is a quadratic
   program for each h, whose |g_v| is h at the minimum: above it |g_v| < h, below it |g_v| > h. */
static MTL__RARE void mtl__cagrad_weigh(mtl__surgery_case *c)
{
    const size_t n = c->n;
    double *b = c->scratch, *product = c->scratch + 4 * n + n * n, low = 0, high = 1, reach, length = 0;
    mtl__program p;
    size_t k;
    int round;
    mtl__program_init(&p, c, b, 1);
    reach = (double)c->desc->surgery_c * mtl__gram_length(n, c->gram, c->w, b) / (double)n;
    for (k = 0; k < n; k++) b[k] /= (double)n;
    for (round = 0; round < 48 && reach > 0; round++) {
        const double middle = (low + high) / 2;             /* the trace is 1, so no |g_v| is above */
        p.factor = reach / middle;
        mtl__program_solve(&p);
        length = mtl__gram_length(n, c->gram, p.x, product);
        if (length > middle) low = middle;
        else high = middle;
    }
    for (k = 0; k < n; k++)                 /* where tasks stand still together, so does the update */
        c->weight[k] = !(reach > 0) ? c->w[k] : length < 1e-4 ? 0
            : c->w[k] + (double)n * reach / length * p.x[k];
}

/* Turns rows and columns p and q of a symmetric matrix so that element pq becomes 0 (Jacobi 1846); v: the
   product of all turns. */
static MTL__RARE void mtl__jacobi_turn(size_t n, double *a, double *v, size_t p, size_t q)
{
    const double theta = (a[q * n + q] - a[p * n + p]) / (2 * a[p * n + q]);
    const double t = (theta < 0 ? -1 : 1) / (fabs(theta) + sqrt(theta * theta + 1));
    const double cosine = 1 / sqrt(t * t + 1), sine = t * cosine;
    size_t k, pass;
    for (pass = 0; pass < 3; pass++)        /* rows of a, columns of a, columns of v */
        for (k = 0; k < n; k++) {
            double *x = pass == 2 ? &v[k * n + p] : pass ? &a[k * n + p] : &a[p * n + k];
            double *y = pass == 2 ? &v[k * n + q] : pass ? &a[k * n + q] : &a[q * n + k];
            const double was = *x;
            *x = cosine * was - sine * *y;
            *y = sine * was + cosine * *y;
        }
}

/* Eigenvalues onto the diagonal of a, eigenvectors into the columns of v. */
static MTL__RARE void mtl__jacobi(size_t n, double *a, double *v)
{
    size_t p, q, sweep, turns = 1;
    for (p = 0; p < n * n; p++) v[p] = p % (n + 1) == 0;
    for (sweep = 0; sweep < 50 && turns; sweep++)
        for (p = turns = 0; p < n; p++)
            for (q = p + 1; q < n; q++)
                if (fabs(a[p * n + q]) > 1e-18) {           /* of a trace of 1 */
                    mtl__jacobi_turn(n, a, v, p, q);
                    turns++;
                }
}

/* sqrt(s) V S^-1/2 V' w, S the eigenvalues of G that are not 0, s the smallest of them. */
static MTL__RARE void mtl__aligned_weigh(mtl__surgery_case *c)
{
    const size_t n = c->n;
    double *a = c->scratch, *v = a + n * n, most = 0, least = 1;
    size_t i, k;
    memcpy(a, c->gram, n * n * sizeof *a);
    mtl__jacobi(n, a, v);
    for (k = 0; k < n; k++) if (a[k * n + k] > most) most = a[k * n + k];
    most *= (double)n * 1.1920929e-7;       /* the rounding of float */
    for (k = 0; k < n; k++)
        if (a[k * n + k] > most && a[k * n + k] < least) least = a[k * n + k];
    for (k = 0; k < n; k++) {
        double along = 0;
        if (!(a[k * n + k] > most)) continue;
        for (i = 0; i < n; i++) along += v[i * n + k] * c->w[i];
        for (i = 0; i < n; i++) c->weight[i] += sqrt(least / a[k * n + k]) * along * v[i * n + k];
    }
}

/* A row: sets weight[], zeros before. */
typedef struct mtl__surgery_kind {
    int pairs;                              /* 1: it keeps a number of each pair of tasks */
    void (*weigh)(mtl__surgery_case *c);    /* NULL: no surgery */
} mtl__surgery_kind;

/* In the order of MTL_SURGERY_NAMES. */
static const mtl__surgery_kind mtl__surgery_kinds[] = {
    { 0, NULL },
    { 0, mtl__pcgrad_weigh },
    { 1, mtl__gradvac_weigh },
    { 0, mtl__mgda_weigh },
    { 0, mtl__cagrad_weigh },
    { 0, mtl__aligned_weigh },
    { 0, mtl__upgrad_weigh }
};

/* ---- surgery: from gradients to gradients -------------------------------------------------------------- */

typedef struct mtl__surgery {
    const mtl__surgery_kind *kind;
    const mtl_trainer_desc *desc;
    const mtl_parameters *set;
    size_t tasks;
    mtl_gradients **of;                     /* [tasks] NULL: a task that stands outside. NULL: no task has a
                                               set of its own */
    mtl_gradients *into;                    /* what has the others' gradients, and gets the result */
    size_t *component;                      /* [tasks] of the model */
    double *gram;                           /* [tasks][tasks] of w_k times the gradients */
    double *scale;                          /* [tasks] what these are multiplied by */
    double *state, *next;                   /* [tasks][tasks] of pairs; after this update, if it is made */
    size_t *task, *order;                   /* [tasks] of a case */
    double *w, *weight, *raw, *scratch;
    unsigned char *reached;                 /* [tensors] MTL__BY_* */
    uint64_t seed;
} mtl__surgery;

enum { MTL__BY_NONE, MTL__BY_ONE, MTL__BY_TASKS, MTL__BY_MORE = 4 };    /* _MORE: there was a gradient
                                                                           before */
enum { MTL__SURGERY_ELEMENTS = 32768, MTL__SURGERY_ROWS = 64,           /* a piece */
       MTL__SURGERY_STRIP = 256 };          /* elements of one task, then of the next: short, so that the
                                               processor fetches ahead in all of them */

typedef struct mtl__surgery_piece { size_t tensor, first, count; } mtl__surgery_piece;
typedef struct mtl__surgery_job {
    const mtl__surgery *surgery;
    const mtl__kernels *kernels;
    const mtl__surgery_piece *pieces;
    double *sums;                           /* [pieces][tasks (tasks + 1) / 2] */
} mtl__surgery_job;

/* Everything that surgery keeps, in the arena. outside: tasks without a set of their own; components: [tasks]
   are filled in by the caller. */
static MTL__RARE void mtl__surgery_build(mtl__surgery *s, const mtl_trainer_desc *desc, mtl_gradients *into,
                                         const mtl__weighting *w, mtl_arena *arena, mtl_error *err)
{
    const size_t n = w->tasks;
    double *numbers = (double *)mtl__arena_make(arena, 7 * n * n + 7 * n, sizeof *numbers, "surgery", err);
    size_t k;
    s->kind = &mtl__surgery_kinds[desc->surgery - MTL_SURGERY_NONE];
    s->desc = desc;
    s->tasks = n;
    s->into = into;
    s->of = (mtl_gradients **)mtl__arena_make(arena, n, sizeof *s->of, "surgery", err);
    s->component = (size_t *)mtl__arena_make(arena, 3 * n, sizeof *s->component, "surgery", err);
    if (mtl__failed(err)) return;
    s->set = into->set;
    s->task = s->component + n;
    s->order = s->task + n;
    s->gram = numbers;
    s->raw = s->gram + n * n;
    s->state = s->raw + n * n;
    s->next = s->state + n * n;
    s->scratch = s->next + n * n;
    s->scale = s->scratch + 3 * n * n + 4 * n;
    s->w = s->scale + n;
    s->weight = s->w + n;
    s->reached = (unsigned char *)mtl__arena_make(arena, s->set->count, 1, "surgery", err);
    for (k = 0; k < n && !mtl__failed(err); k++)
        if (!w->of[k].outside) s->of[k] = mtl_gradients_create(s->set, arena, err);
}

static int mtl__surgery_reaches(const mtl__surgery *s, size_t k, size_t tensor)
{
    return s->of[k] && s->of[k]->of[tensor].state != MTL_GRAD_NONE;
}

/* Adds task k's rows of a table to the list of the result's; rows that are new there begin as 0 when the
   others are to be added to. fresh: [rows] */
static void mtl__surgery_rows(mtl__surgery *s, size_t k, const mtl_tensor *t, int zero, int *fresh)
{
    const mtl_gradient *from = &s->of[k]->of[t->index];
    mtl_gradient *to = &s->into->of[t->index];
    size_t r, n = 0;
    for (r = 0; r < from->row_count; r++) {
        if (s->into->touched[t->index][from->rows[r]]) continue;
        fresh[n++] = from->rows[r];
        if (zero) memset(to->value + (size_t)from->rows[r] * t->shape[1], 0, t->shape[1] * sizeof(mtl_real));
    }
    to->state = MTL_GRAD_ROWS;
    mtl__gradient_add_rows(s->into, t, fresh, n);
}

/* A gradient that one task alone has changes hands. */
static MTL__RARE void mtl__surgery_hand_over(mtl__surgery *s, size_t k, size_t tensor)
{
    const mtl_gradient held = s->into->of[tensor];
    unsigned char *touched = s->into->touched[tensor];
    s->into->of[tensor] = s->of[k]->of[tensor];
    s->into->touched[tensor] = s->of[k]->touched[tensor];
    s->of[k]->of[tensor] = held;
    s->of[k]->touched[tensor] = touched;
}

/* Brings a tensor's gradients to one state, ROWS or DENSE, and tells who reached it. */
static MTL__RARE void mtl__surgery_prepare(mtl__surgery *s, const mtl_tensor *t, int *fresh)
{
    const size_t i = t->index;
    const int before = s->into->of[i].state;
    size_t k, count = 0, last = 0;
    int dense = before == MTL_GRAD_DENSE;
    for (k = 0; k < s->tasks; k++) {
        if (!mtl__surgery_reaches(s, k, i)) continue;
        last = k;
        count++;
        dense |= s->of[k]->of[i].state == MTL_GRAD_DENSE;
    }
    s->reached[i] = (unsigned char)(count > 1 ? (size_t)MTL__BY_TASKS : count);
    if (count == 1 && before == MTL_GRAD_NONE) {
        mtl__surgery_hand_over(s, last, i);
        s->reached[i] = MTL__BY_NONE;
        return;
    }
    if (count && before != MTL_GRAD_NONE) s->reached[i] |= MTL__BY_MORE;
    if (count && dense && before == MTL_GRAD_ROWS) mtl__gradient_densify(s->into, t);
    for (k = 0; count && k < s->tasks; k++) {
        if (!mtl__surgery_reaches(s, k, i)) continue;
        if (!dense) mtl__surgery_rows(s, k, t, before != MTL_GRAD_NONE, fresh);
        else if (s->of[k]->of[i].state == MTL_GRAD_ROWS) mtl__gradient_densify(s->of[k], t);
    }
    if (count && dense) s->into->of[i].state = MTL_GRAD_DENSE;
}

/* Cuts what tasks reached into pieces; pieces NULL: counts them. */
static MTL__RARE size_t mtl__surgery_pieces(const mtl__surgery *s, mtl__surgery_piece *pieces)
{
    size_t i, first, n = 0;
    for (i = 0; i < s->set->count; i++) {
        const int rows = s->into->of[i].state == MTL_GRAD_ROWS;
        const size_t total = rows ? s->into->of[i].row_count : s->set->tensors[i]->count;
        const size_t unit = rows ? (size_t)MTL__SURGERY_ROWS : (size_t)MTL__SURGERY_ELEMENTS;
        for (first = 0; s->reached[i] && first < total; first += unit, n++)
            if (pieces) {
                pieces[n].tensor = i;
                pieces[n].first = first;
                pieces[n].count = mtl__at_most(unit, total - first);
            }
    }
    return n;
}

/* A strip of a piece: where it begins and its length; 0: there is none. row: of a table, or -1. */
static size_t mtl__surgery_strip(const mtl__surgery *s, const mtl__surgery_piece *piece, size_t strip,
                                 size_t *begin, int *row)
{
    const mtl_gradient *g = &s->into->of[piece->tensor];
    const size_t width = s->set->tensors[piece->tensor]->shape[1];
    const size_t parts = (width - 1) / MTL__SURGERY_STRIP + 1;          /* of a table's row */
    size_t at = strip * MTL__SURGERY_STRIP;
    *row = -1;
    *begin = piece->first + at;
    if (g->state != MTL_GRAD_ROWS)
        return at < piece->count ? mtl__at_most(MTL__SURGERY_STRIP, piece->count - at) : 0;
    if (strip / parts >= piece->count) return 0;
    *row = g->rows[piece->first + strip / parts];
    at = strip % parts * MTL__SURGERY_STRIP;
    *begin = (size_t)*row * width + at;
    return mtl__at_most(MTL__SURGERY_STRIP, width - at);
}

/* Task k's values of a strip, or NULL. */
static const mtl_real *mtl__surgery_values(const mtl__surgery *s, size_t k, size_t tensor, size_t begin,
                                           int row)
{
    if (!mtl__surgery_reaches(s, k, tensor) || (row >= 0 && !s->of[k]->touched[tensor][row])) return NULL;
    return s->of[k]->of[tensor].value + begin;
}

/* Products of task i's values of a strip with those of tasks 0 .. i that have some, four at a time (the last
   of them several times, where there are fewer): sums [i + 1]. */
static void mtl__surgery_products(const mtl__surgery_job *job, size_t i, size_t tensor, size_t begin, int row,
                                  size_t length, double *sums)
{
    const mtl_real *x = mtl__surgery_values(job->surgery, i, tensor, begin, row), *y[4];
    double products[4];
    size_t of[4], j, n = 0, k;
    for (j = 0; x && j <= i; j++) {
        const mtl_real *other = mtl__surgery_values(job->surgery, j, tensor, begin, row);
        if (!other) continue;               /* never when j is i */
        for (k = n; k < 4; k++) y[k] = other;
        of[n++] = j;
        if (n < 4 && j < i) continue;
        job->kernels->dots(length, x, y, products);
        for (k = 0; k < n; k++) sums[of[k]] += products[k];
        n = 0;
    }
}

static void mtl__surgery_gram_piece(void *context, size_t number)
{
    const mtl__surgery_job *job = (const mtl__surgery_job *)context;
    const mtl__surgery *s = job->surgery;
    const mtl__surgery_piece *piece = &job->pieces[number];
    const size_t pairs = s->tasks * (s->tasks + 1) / 2;
    double *sums = job->sums + number * pairs;
    size_t strip, begin, length, i;
    int row;
    memset(sums, 0, pairs * sizeof *sums);
    if ((s->reached[piece->tensor] & MTL__BY_TASKS) == 0) return;
    for (strip = 0; (length = mtl__surgery_strip(s, piece, strip, &begin, &row)) > 0; strip++)
        for (i = 0; i < s->tasks; i++)
            mtl__surgery_products(job, i, piece->tensor, begin, row, length, sums + i * (i + 1) / 2);
}

/* The result: the tasks' gradients, each scaled, one after the other; the first of them assigns. */
static void mtl__surgery_join_piece(void *context, size_t number)
{
    const mtl__surgery_job *job = (const mtl__surgery_job *)context;
    const mtl__surgery *s = job->surgery;
    const mtl__surgery_piece *piece = &job->pieces[number];
    const int shared = s->reached[piece->tensor] & MTL__BY_TASKS;
    size_t strip, begin, length, k;
    int row;
    for (strip = 0; (length = mtl__surgery_strip(s, piece, strip, &begin, &row)) > 0; strip++) {
        mtl_real *to = s->into->of[piece->tensor].value + begin;
        int add = s->reached[piece->tensor] & MTL__BY_MORE;
        for (k = 0; k < s->tasks; k++) {
            const mtl_real *x = mtl__surgery_values(s, k, piece->tensor, begin, row);
            const mtl_real scale = (mtl_real)(shared ? s->scale[k] : 1);
            if (!x) continue;
            if (add) job->kernels->add_scaled(length, scale, x, to);
            else {
                memcpy(to, x, length * sizeof *to);
                job->kernels->scale(length, scale, to);
            }
            add = 1;
        }
    }
}

/* The Gram matrix of all tasks: sums of pieces in their order. */
static MTL__RARE void mtl__surgery_gram(mtl__surgery *s, const mtl__surgery_job *job, size_t pieces)
{
    const size_t n = s->tasks, pairs = n * (n + 1) / 2;
    size_t i, j, piece;
    memset(s->gram, 0, n * n * sizeof *s->gram);
    for (piece = 0; piece < pieces; piece++)
        for (i = 0; i < n; i++)
            for (j = 0; j <= i; j++) s->gram[i * n + j] += job->sums[piece * pairs + i * (i + 1) / 2 + j];
    for (i = 0; i < n; i++)
        for (j = 0; j < i; j++) s->gram[j * n + i] = s->gram[i * n + j];
}

/* The tasks of one part of the model: what their gradients are multiplied by. */
static MTL__RARE void mtl__surgery_weigh(mtl__surgery *s, const mtl__weighting *w, size_t component)
{
    mtl__surgery_case c;
    const size_t all = s->tasks;
    double trace = 0;
    size_t i, j;
    memset(&c, 0, sizeof c);
    for (i = 0; i < all; i++)
        if (s->component[i] == component && s->gram[i * all + i] > 0) {
            s->w[c.n] = w->of[i].weight;
            s->weight[c.n] = 0;
            s->task[c.n++] = i;
        }
    if (c.n < 2) return;
    for (i = 0; i < c.n; i++) trace += s->gram[s->task[i] * (all + 1)] / (s->w[i] * s->w[i]);
    if (!mtl__double_is_finite(trace)) return;          /* the norm of the gradient will say so */
    for (i = 0; i < c.n; i++)
        for (j = 0; j < c.n; j++)
            s->raw[i * c.n + j] = s->gram[s->task[i] * all + s->task[j]] / (s->w[i] * s->w[j]) / trace;
    c.desc = s->desc, c.tasks = all, c.task = s->task, c.w = s->w, c.gram = s->raw, c.weight = s->weight;
    c.state = s->next, c.seed = s->seed, c.scratch = s->scratch, c.order = s->order;
    s->kind->weigh(&c);
    for (i = 0; i < c.n; i++) s->scale[s->task[i]] = s->weight[i] / s->w[i];
}

/* Rows of the largest table. */
static size_t mtl__surgery_rows_most(const mtl__surgery *s)
{
    size_t i, most = 0;
    for (i = 0; i < s->set->count; i++)
        if (s->set->tensors[i]->role == MTL_TENSOR_EMBEDDING && s->set->tensors[i]->shape[0] > most)
            most = s->set->tensors[i]->shape[0];
    return most;
}

/* Most bytes that mtl__surgery_finish pushes. */
static MTL__RARE void mtl__surgery_measure(const mtl__surgery *s, mtl_run *run)
{
    const mtl_parameters *set = s->set;
    size_t count = set->count + set->total / MTL__SURGERY_ELEMENTS, i;
    for (i = 0; i < set->count; i++)
        if (set->tensors[i]->role == MTL_TENSOR_EMBEDDING)
            count += set->tensors[i]->shape[0] / MTL__SURGERY_ROWS;
    (void)mtl_run_push(run, mtl__surgery_rows_most(s) * sizeof(int));
    (void)mtl_run_push(run, count * sizeof(mtl__surgery_piece));
    (void)mtl_run_push(run, count * (s->tasks * (s->tasks + 1) / 2) * sizeof(double));
}

/* 1: no task before this one is of its part of the model. */
static int mtl__surgery_first(const mtl__surgery *s, size_t task)
{
    size_t i = 0;
    while (s->component[i] != s->component[task]) i++;
    return i == task;
}

/* After the last micro-batch: one gradient of all, in `into`. */
static MTL__RARE MTL__NOINLINE void mtl__surgery_finish(mtl__surgery *s, mtl__weighting *w, mtl_run *run)
{
    mtl_arena_mark mark = mtl_arena_save(run->arena);
    int *fresh = (int *)mtl_run_push(run, mtl__surgery_rows_most(s) * sizeof *fresh);
    mtl__surgery_piece *pieces;
    mtl__surgery_job job;
    size_t i, count;
    if (mtl__failed(run->error)) return;
    for (i = 0; i < s->set->count; i++) mtl__surgery_prepare(s, s->set->tensors[i], fresh);
    count = mtl__surgery_pieces(s, NULL);
    pieces = (mtl__surgery_piece *)mtl_run_push(run, count * sizeof *pieces);
    job.sums = (double *)mtl_run_push(run, count * (s->tasks * (s->tasks + 1) / 2) * sizeof *job.sums);
    if (mtl__failed(run->error)) return;
    (void)mtl__surgery_pieces(s, pieces);
    job.surgery = s;
    job.kernels = mtl__run_kernels(run);
    job.pieces = pieces;
    mtl__run_for(run, count, mtl__surgery_gram_piece, &job);
    mtl__surgery_gram(s, &job, count);
    s->seed = mtl__random_bits(s->desc->seed, MTL__BALANCE_STREAM + 1, w->step);
    memcpy(s->next, s->state, s->tasks * s->tasks * sizeof *s->next);
    for (i = 0; i < s->tasks; i++) {
        s->scale[i] = 1;
        w->of[i].norm = sqrt(s->gram[i * (s->tasks + 1)]);
    }
    for (i = 0; s->kind->weigh && i < s->tasks; i++)        /* a part by the first of its tasks */
        if (mtl__surgery_first(s, i)) mtl__surgery_weigh(s, w, s->component[i]);
    mtl__run_for(run, count, mtl__surgery_join_piece, &job);
    mtl_arena_release(run->arena, mark);
}

/* ===========================================================================================================
   26 >>optimise   SGD, RMSProp, Adam, AdamW; clipping; schedules; averaging
   ===========================================================================================================
   Moments are blocks of the parameters' layout. An update visits what gradient states name: NONE is skipped
   and its step count stays, as in PyTorch. A ROWS gradient updates its rows alone when that is what the rule
   would do anyway (SGD without memory) or when `lazy` asks for it; else the rows without a gradient count as
   zero gradients, which is exact: rows that never had one have moments of zero and would not move, so they
   are not visited either, unless l1, l2 or decay moves them. With `lazy` nothing in a step is proportional to
   the vocabulary, the average included: while a row stays as it is, k updates of average += (1-d)(p -
   average) are average = p + d^k (average - p), so rows are brought up to date when they are touched and
   wherever the average is read. Without `lazy` every row that has moments moves at every update. Inside
   mtl_fit such updates wait: a row makes up for those it has missed, one after the other with the same
   arithmetic, and all rows do so every 32 updates. Whoever reads a table asks for the rows that it reads,
   or for all, with mtl__parameters_fresh first: the embedding layer, the packing of a table that products
   read as well, and whatever looks at the model. A gradient of the whole table makes all its rows fresh,
   too. No bit changes, but the table and its moments come from memory once in 32 updates.
       SGD      Robbins & Monro 1951; momentum Polyak 1964, Nesterov 1983 in PyTorch's form
       RMSProp  Tieleman & Hinton 2012          Adam  Kingma & Ba 2015          AdamW  Loshchilov & Hutter
                                                2019
   -------------------------------------------------------------------------------------------------------- */
enum {
    MTL__MOST_LATE = 32,                    /* every so many updates all rows are brought up to date */
    MTL__LATE_ROWS = 16,                    /* rows that make up for their updates together: they and their
                                               moments fit L1 up to a width of 128 */
    MTL__LATE_JOBS = 8                      /* jobs among which the ids of a batch are divided */
};

typedef struct mtl__optimizer {
    const mtl_trainer_desc *desc;
    mtl_parameters *set;
    mtl_gradients *gradients;
    mtl_real *m, *v;                        /* first and second moments; NULL when the rule has none */
    mtl_real *average;                      /* exponential average of the weights, or NULL */
    unsigned long long **averaged;          /* [tensors] embeddings: [rows], else [1]: the update that the
                                               average has seen last */
    unsigned char **seen;                   /* [tensors] embeddings: [rows] 1: its moments may not be zero;
                                               else NULL */
    unsigned long long *steps;              /* [tensors] updates each has had */
    unsigned long long **applied;           /* [tensors] embeddings: [rows] which of these updates a row has
                                               seen last; else NULL */
    mtl__update **late;                     /* [tensors] embeddings: the last MTL__MOST_LATE updates, number n
                                               at n % MTL__MOST_LATE */
    int waits;                              /* 1: rows without a gradient may be late, by less than
                                               MTL__MOST_LATE updates */
    const mtl_run *run;                     /* while rows wait: whose kernels and threads make up for it */
    unsigned long long step;                /* updates of the whole */
    size_t total_steps;                     /* of the schedule */
    size_t components;                      /* connected parts of the model, .. */
    double *norms;                          /* .. and the norm of each one's gradient */
    float lr, plateau;                      /* base rate; factor of the plateau schedule */
    mtl__update rule;                       /* what all updates have in common */
} mtl__optimizer;

static int mtl__optimizer_has_momentum(const mtl_trainer_desc *d)
{
    return d->optimizer == MTL_OPTIMIZER_ADAM || d->optimizer == MTL_OPTIMIZER_ADAMW || d->momentum > 0;
}

/* A float field as the decimal number that was meant: 0.999f is 0.99900001287, and 1 - beta2 would be off by
   1e-5 of itself. */
static double mtl__as_written(float value)
{
    char text[32];
    double number = (double)value;
    size_t length = mtl_text_from_number(number, text);
    (void)mtl_text_number(text, length, &number);
    return number;
}

/* The rule's constants, read from their text once: that takes microseconds. */
static mtl__update mtl__optimizer_rule(const mtl_trainer_desc *d)
{
    mtl__update u;
    memset(&u, 0, sizeof u);
    u.rule = d->optimizer == MTL_OPTIMIZER_ADAMW ? MTL_OPTIMIZER_ADAM : d->optimizer;
    u.nesterov = d->nesterov;
    u.momentum = mtl__as_written(d->momentum);
    u.beta1 = mtl__as_written(d->beta1);
    u.beta2 = mtl__as_written(d->beta2);
    u.epsilon = mtl__as_written(d->epsilon);
    u.limit = (double)d->clip_value;
    u.l2 = mtl__as_written(d->l2);
    u.l1 = mtl__as_written(d->l1);
    u.decay = mtl__as_written(d->decay);
    return u;
}

MTL__INLINE size_t mtl__average_units(const mtl_tensor *t)
{
    return t->role == MTL_TENSOR_EMBEDDING ? t->shape[0] : 1;
}

/* What the optimiser remembers of each tensor's rows. */
static void mtl__optimizer_rows(mtl__optimizer *o, mtl_arena *arena, mtl_error *err)
{
    size_t i, count = o->set->count;
    o->seen = (unsigned char **)mtl__arena_make(arena, count, sizeof *o->seen, "moments", err);
    o->averaged = (unsigned long long **)mtl__arena_make(arena, count, sizeof *o->averaged,
                                                         "averaged weights", err);
    o->applied = (unsigned long long **)mtl__arena_make(arena, count, sizeof *o->applied, "moments", err);
    o->late = (mtl__update **)mtl__arena_make(arena, count, sizeof *o->late, "moments", err);
    for (i = 0; i < count && !mtl__failed(err); i++) {
        const mtl_tensor *t = o->set->tensors[i];
        if (t->role == MTL_TENSOR_EMBEDDING) {
            o->seen[i] = (unsigned char *)mtl__arena_zero(arena, t->shape[0], 1, "moments", err);
            o->applied[i] = (unsigned long long *)mtl__arena_zero(arena, t->shape[0], sizeof **o->applied,
                                                                  "moments", err);
            o->late[i] = (mtl__update *)mtl__arena_zero(arena, MTL__MOST_LATE, sizeof **o->late, "moments",
                                                        err);
        }
        if (o->desc->average > 0)
            o->averaged[i] = (unsigned long long *)mtl__arena_zero(arena, mtl__average_units(t),
                                                                   sizeof **o->averaged, "averaged weights",
                                                                       err);
    }
}

static mtl_status mtl__optimizer_init(mtl__optimizer *o, const mtl_trainer_desc *desc, mtl_parameters *set,
                                      mtl_gradients *gradients, mtl_arena *arena, mtl_error *err)
{
    size_t i;
    memset(o, 0, sizeof *o);
    o->desc = desc;
    o->set = set;
    o->gradients = gradients;
    o->lr = desc->lr;
    o->plateau = 1;
    o->rule = mtl__optimizer_rule(desc);
    o->total_steps = (size_t)desc->total_steps;
    if (mtl__optimizer_has_momentum(desc))
        o->m = (mtl_real *)mtl__arena_zero(arena, set->total, sizeof(mtl_real), "first moments", err);
    if (desc->optimizer != MTL_OPTIMIZER_SGD)
        o->v = (mtl_real *)mtl__arena_zero(arena, set->total, sizeof(mtl_real), "second moments", err);
    if (desc->average > 0) o->average = (mtl_real *)mtl__arena_zero(arena, set->total, sizeof(mtl_real),
                                                                    "averaged weights", err);
    o->steps = (unsigned long long *)mtl__arena_zero(arena, set->count, sizeof *o->steps, "step counts", err);
    for (i = 0; i < set->count; i++)
        if (set->tensors[i]->component >= o->components) o->components = set->tensors[i]->component + 1;
    o->norms = (double *)mtl__arena_make(arena, o->components, sizeof *o->norms, "gradient norms", err);
    mtl__optimizer_rows(o, arena, err);
    if (!mtl__failed(err) && o->average && !arena->counting)
        memcpy(o->average, set->block, set->total * sizeof(mtl_real));
    return mtl__status(err);
}

/* ---- schedules: what the base rate is multiplied by at update s = 1, 2, .. ----------------------------- */

static double mtl__cosine_between(double from, double to, double share)
{
    return to + (from - to) * 0.5 * (1 + cos(3.141592653589793 * (share < 1 ? share : 1)));
}

static double mtl__schedule(const mtl__optimizer *o, unsigned long long s)
{
    const mtl_trainer_desc *d = o->desc;
    double warm = (double)d->warmup, step = (double)s, total = (double)o->total_steps, share,
        final = (double)d->lr_final;
    /* Smith & Topin 2018 */
    if (d->schedule == MTL_SCHEDULE_ONE_CYCLE && warm == 0) warm = floor(0.3 * total);
    if (warm > 0 && step <= warm)
        return d->schedule == MTL_SCHEDULE_ONE_CYCLE
            ? mtl__cosine_between(1.0 / 25, 1, warm > 1 ? (step - 1) / (warm - 1) : 1) : step / warm;
    share = total > warm ? (step - warm) / (total - warm) : 0;
    switch (d->schedule) {
    case MTL_SCHEDULE_STEP: return pow((double)d->schedule_factor,
                                       floor((step - 1 - warm) / d->schedule_every));
    case MTL_SCHEDULE_EXPONENTIAL: return pow((double)d->schedule_factor,
                                              (step - 1 - warm) / d->schedule_every);
    case MTL_SCHEDULE_LINEAR: return 1 + (final - 1) * (share < 1 ? share : 1);
    case MTL_SCHEDULE_COSINE: return mtl__cosine_between(1, final, share);
    case MTL_SCHEDULE_ONE_CYCLE: return mtl__cosine_between(1, final > 0 ? final : 1e-4 / 25, share);
    case MTL_SCHEDULE_PLATEAU: return (double)o->plateau;
    default: return 1;
    }
}

/* ---- pieces: gradients cut into jobs, by sizes fixed by the problem ------------------------------------ */

enum { MTL__PIECE_ELEMENTS = 32768, MTL__PIECE_ROWS = 64 };
enum { MTL__OF_ELEMENTS, MTL__OF_LIST, MTL__OF_TABLE };     /* a piece counts elements, rows of a ROWS
                                                               gradient's list, or all rows */
typedef struct mtl__piece { size_t tensor, first, count; int of; } mtl__piece;
typedef struct mtl__piece_job {
    mtl__optimizer *optimizer;
    const mtl__kernels *kernels;
    const mtl__update *updates;             /* [tensors] for an update */
    const mtl__piece *pieces;
    double *sums;                           /* [pieces] for the norm */
} mtl__piece_job;

/* Cuts the meaningful part of a tensor's gradient into pieces; pieces NULL: only counts them. */
static size_t mtl__pieces_of(const mtl__optimizer *o, size_t tensor, int of, mtl__piece *pieces)
{
    const mtl_tensor *t = o->set->tensors[tensor];
    const mtl_gradient *g = &o->gradients->of[tensor];
    size_t total = of == MTL__OF_ELEMENTS ? t->count : of == MTL__OF_LIST
        ? mtl__gradient_ranges(g) : t->shape[0], first, n = 0;
    size_t unit = of == MTL__OF_LIST ? (size_t)MTL__PIECE_ROWS : (size_t)MTL__PIECE_ELEMENTS;
    if (of == MTL__OF_TABLE) unit = (MTL__PIECE_ELEMENTS - 1) / t->shape[1] + 1;
    if (g->state == MTL_GRAD_NONE || t->frozen) return 0;
    for (first = 0; first < total; first += unit, n++)
        if (pieces) {
            pieces[n].tensor = tensor;
            pieces[n].first = first;
            pieces[n].count = mtl__at_most(unit, total - first);
            pieces[n].of = of;
        }
    return n;
}

/* The most pieces that an update or a norm can have. */
static size_t mtl__pieces_most(const mtl__optimizer *o)
{
    size_t i, count = 0;
    for (i = 0; i < o->set->count; i++) {
        const mtl_tensor *t = o->set->tensors[i];
        count += t->count / MTL__PIECE_ELEMENTS + 1 + (t->role == MTL_TENSOR_EMBEDDING
                                                       ? t->shape[0] / MTL__PIECE_ROWS + 1 : 0);
    }
    return count;
}

/* ---- the norm of the whole gradient -------------------------------------------------------------------- */

static int mtl__norm_of(const mtl__optimizer *o, size_t tensor)
{
    return o->gradients->of[tensor].state == MTL_GRAD_ROWS ? MTL__OF_LIST : MTL__OF_ELEMENTS;
}

static void mtl__norm_piece(void *context, size_t i)
{
    const mtl__piece_job *job = (const mtl__piece_job *)context;
    const mtl__piece *piece = &job->pieces[i];
    const mtl_tensor *t = job->optimizer->set->tensors[piece->tensor];
    const mtl_gradient *g = &job->optimizer->gradients->of[piece->tensor];
    size_t r, begin, length;
    double sum = 0;
    if (piece->of == MTL__OF_ELEMENTS) sum = job->kernels->sum_squares(piece->count, g->value + piece->first);
    else
        for (r = piece->first; r < piece->first + piece->count; r++) {
            length = mtl__gradient_range(g, t, r, &begin);
            sum += job->kernels->sum_squares(length, g->value + begin);
        }
    job->sums[i] = sum;
}

/* Sums of pieces are added in their order. Scratch comes from the run. */
static double mtl__gradients_norm(mtl__optimizer *o, mtl_run *run)
{
    mtl_arena_mark mark = mtl_arena_save(run->arena);
    mtl__piece_job job;
    mtl__piece *pieces;
    size_t i, n = 0, count = 0;
    double sum = 0;
    for (i = 0; i < o->set->count; i++) count += mtl__pieces_of(o, i, mtl__norm_of(o, i), NULL);
    pieces = (mtl__piece *)mtl_run_push(run, count * sizeof *pieces);
    job.sums = (double *)mtl_run_push(run, count * sizeof *job.sums);
    if (mtl__failed(run->error)) return 0;
    for (i = 0; i < o->set->count; i++) n += mtl__pieces_of(o, i, mtl__norm_of(o, i), pieces + n);
    job.optimizer = o;
    job.kernels = mtl__run_kernels(run);
    job.updates = NULL;
    job.pieces = pieces;
    mtl__run_for(run, count, mtl__norm_piece, &job);
    for (i = 0; i < o->components; i++) o->norms[i] = 0;
    for (i = 0; i < count; i++) {
        sum += job.sums[i];
        o->norms[o->set->tensors[pieces[i].tensor]->component] += job.sums[i];
    }
    for (i = 0; i < o->components; i++) o->norms[i] = sqrt(o->norms[i]);
    mtl_arena_release(run->arena, mark);
    return sqrt(sum);
}

/* What clip_norm multiplies a gradient of this norm with. */
static double mtl__clip_scale(const mtl__optimizer *o, double norm)
{
    const double limit = (double)o->desc->clip_norm;
    return limit > 0 && norm > limit ? limit / (norm + 1e-6) : 1;
}

/* Most bytes that mtl__gradients_norm pushes. */
static void mtl__norm_measure(const mtl__optimizer *o, mtl_run *run)
{
    (void)mtl_run_push(run, mtl__pieces_most(o) * sizeof(mtl__piece));
    (void)mtl_run_push(run, mtl__pieces_most(o) * sizeof(double));
}

/* ---- the average --------------------------------------------------------------------------------------- */

/* `count` updates of n elements' average while the weights stood still. */
static void mtl__average_approach(const mtl__optimizer *o, const mtl__kernels *kernels, const mtl_tensor *t,
                                  size_t begin, size_t n, unsigned long long count)
{
    double decay = (double)(mtl_real)o->desc->average;
    if (count) kernels->approach(n, (mtl_real)(1 - (count == 1 ? decay : pow(decay, (double)count))),
                                 t->value + begin, o->average + t->offset + begin);
}

/* Brings units (rows of an embedding, else the whole tensor) up to update `now`, before their weights
   change. */
static void mtl__average_catch_up(const mtl__optimizer *o, const mtl__kernels *kernels, size_t tensor,
                                  size_t first, size_t count, unsigned long long now)
{
    const mtl_tensor *t = o->set->tensors[tensor];
    unsigned long long *since = o->averaged[tensor];
    size_t width = t->count / mtl__average_units(t), unit;
    for (unit = first; unit < first + count; unit++)
        if (since[unit] < now) {
            mtl__average_approach(o, kernels, t, unit * width, width, now - since[unit]);
            since[unit] = now;
        }
}

/* All of it up to date: before the average is read. (Weights that are swapped with it are up to date,
   too.) */
static void mtl__average_finish(const mtl__optimizer *o, const mtl__kernels *kernels)
{
    const uint64_t before = mtl__arithmetic_set();
    size_t i;
    for (i = 0; o->average && i < o->set->count; i++)
        mtl__average_catch_up(o, kernels, i, 0, mtl__average_units(o->set->tensors[i]), o->step);
    mtl__arithmetic_restore(before);
}

/* ---- the update ---------------------------------------------------------------------------------------- */

/* n elements from `begin` on; has_gradient 0: their gradient is zero. */
static void mtl__update_elements(const mtl__optimizer *o, const mtl__kernels *kernels, const mtl__update *u,
                                 size_t tensor, size_t begin, size_t n, int has_gradient)
{
    const mtl_tensor *t = o->set->tensors[tensor];
    kernels->update(u, n, t->value + begin, has_gradient ? o->gradients->of[tensor].value + begin : NULL,
                    o->m ? o->m + t->offset + begin : NULL, o->v ? o->v + t->offset + begin : NULL);
    if (o->average) mtl__average_approach(o, kernels, t, begin, n, 1);
}

/* Update `number` of an embedding, of rows that stand together. */
static void mtl__update_rows(const mtl__optimizer *o, const mtl__kernels *kernels, size_t tensor,
                             unsigned long long number, size_t first, size_t count, int has_gradient)
{
    size_t width = o->set->tensors[tensor]->shape[1], r;
    if (o->average) mtl__average_catch_up(o, kernels, tensor, first, count, o->step);
    mtl__update_elements(o, kernels, &o->late[tensor][number % MTL__MOST_LATE], tensor, first * width,
                         count * width, has_gradient);
    for (r = first; r < first + count; r++) {
        MTL__ASSERT(!o->waits || o->applied[tensor][r] + 1 == number);
        o->applied[tensor][r] = number;
        if (o->average) o->averaged[tensor][r] = o->step + 1;
    }
}

/* The updates without a gradient that rows are late by, up to number `now`; equally late neighbours together,
   while they are in cache. */
static void mtl__rows_catch_up(const mtl__optimizer *o, const mtl__kernels *kernels, size_t tensor,
                               size_t first, size_t count, unsigned long long now)
{
    const unsigned long long *applied = o->applied[tensor];
    size_t r, next, end = first + count;
    unsigned long long number;
    for (r = first; r < end; r = next) {
        for (next = r + 1; next < end && next - r < MTL__LATE_ROWS && applied[next] == applied[r]; next++) {}
        for (number = applied[r] + 1; number <= now; number++)
            mtl__update_rows(o, kernels, tensor, number, r, next - r, 0);
    }
}

/* 1: an update moves weights that have neither a gradient nor moments. */
static int mtl__update_moves_all(const mtl__update *u) { return u->l1 != 0 || u->l2 != 0 || u->decay != 0; }

/* Moves *r to the next row that has moments (`all`: any row does) and returns the end of a run of such rows,
   or `end`. */
static size_t mtl__moving_rows(const unsigned char *seen, int all, size_t *r, size_t end)
{
    const unsigned char *found = all || *r == end ? seen + *r
        : (const unsigned char *)memchr(seen + *r, 1, end - *r);
    size_t next = *r = found ? (size_t)(found - seen) : end;
    while (next < end && (all || seen[next])) next++;
    return next;
}

/* All rows that move: with their gradient, or by as many updates without one as they are late. */
static void mtl__update_table(const mtl__piece_job *job, const mtl__piece *piece)
{
    const mtl__optimizer *o = job->optimizer;
    const size_t tensor = piece->tensor, end = piece->first + piece->count;
    const unsigned char *touched = o->gradients->touched[tensor];
    const int dense = o->gradients->of[tensor].state == MTL_GRAD_DENSE, all = dense ||
        mtl__update_moves_all(&job->updates[tensor]);
    size_t r = piece->first, run, next;
    while (r < end)
        for (run = mtl__moving_rows(o->seen[tensor], all, &r, end); r < run; r = next) {
            const int has_gradient = dense || touched[r];
            for (next = r + 1; next < run && (dense || touched[next]) == has_gradient; next++) {}
            if (has_gradient) mtl__update_rows(o, job->kernels, tensor, o->steps[tensor], r, next - r, 1);
            else mtl__rows_catch_up(o, job->kernels, tensor, r, next - r, o->steps[tensor]);
        }
}

static void mtl__update_piece(void *context, size_t i)
{
    const mtl__piece_job *job = (const mtl__piece_job *)context;
    const mtl__optimizer *o = job->optimizer;
    const mtl__piece *piece = &job->pieces[i];
    const size_t tensor = piece->tensor;
    size_t r;
    if (piece->of == MTL__OF_ELEMENTS)
        mtl__update_elements(o, job->kernels, &job->updates[tensor], tensor, piece->first, piece->count, 1);
    else if (piece->of == MTL__OF_TABLE) mtl__update_table(job, piece);
    else
        for (r = piece->first; r < piece->first + piece->count; r++)
            mtl__update_rows(o, job->kernels, tensor, o->steps[tensor],
                             (size_t)o->gradients->of[tensor].rows[r], 1, 1);
}

/* Whether untouched rows would stay as they are, so that only touched ones need a visit. */
static int mtl__update_rows_only(const mtl__optimizer *o)
{
    const mtl_trainer_desc *d = o->desc;
    int memoryless = d->optimizer == MTL_OPTIMIZER_SGD && d->momentum == 0 && d->l1 == 0 && d->l2 == 0 &&
        d->decay == 0;
    return d->lazy || memoryless;
}

/* ---- rows that wait ------------------------------------------------------------------------------------ */

/* Rows of an embedding that are to make up for what they are late by: those of `ids`, or all. */
typedef struct mtl__late_job {
    const mtl__optimizer *optimizer;
    const mtl__kernels *kernels;
    size_t tensor, count;
    const int *ids;                         /* [count], some of them several times */
} mtl__late_job;

static int mtl__late_moves_all(const mtl__late_job *job)
{
    const mtl__optimizer *o = job->optimizer;
    return mtl__update_moves_all(&o->late[job->tensor][o->steps[job->tensor] % MTL__MOST_LATE]);
}

/* Of MTL__LATE_JOBS jobs, each takes the ids of one remainder. */
static void mtl__late_ids(void *context, size_t i)
{
    const mtl__late_job *job = (const mtl__late_job *)context;
    const mtl__optimizer *o = job->optimizer;
    const int all = mtl__late_moves_all(job);
    size_t n;
    for (n = 0; n < job->count; n++) {
        const size_t id = (size_t)job->ids[n];
        if (id % MTL__LATE_JOBS != i) continue;
        if (all || o->seen[job->tensor][id])
            mtl__rows_catch_up(o, job->kernels, job->tensor, id, 1, o->steps[job->tensor]);
        o->applied[job->tensor][id] = o->steps[job->tensor];    /* by one that does not move, too */
    }
}

/* Each job takes MTL__PIECE_ROWS rows. */
static void mtl__late_table(void *context, size_t i)
{
    const mtl__late_job *job = (const mtl__late_job *)context;
    const mtl__optimizer *o = job->optimizer;
    const size_t first = i * MTL__PIECE_ROWS, end = mtl__at_most(first + MTL__PIECE_ROWS, job->count);
    size_t r, run;
    for (r = first; r < end; r = run) {
        run = mtl__moving_rows(o->seen[job->tensor], mtl__late_moves_all(job), &r, end);
        mtl__rows_catch_up(o, job->kernels, job->tensor, r, run - r, o->steps[job->tensor]);
    }
    for (r = first; r < end; r++) o->applied[job->tensor][r] = o->steps[job->tensor];
}

static void mtl__table_fresh(const mtl__optimizer *o, size_t tensor, const int *ids, size_t count)
{
    const mtl_scheduler *scheduler = o->run->scheduler;
    mtl__late_job job;
    if (!o->late[tensor] || o->steps[tensor] == 0) return;
    job.optimizer = o;
    job.kernels = mtl__run_kernels(o->run);
    job.tensor = tensor;
    job.ids = ids;
    job.count = ids ? count : o->set->tensors[tensor]->shape[0];
    if (ids) mtl__parallel_for(scheduler, MTL__LATE_JOBS, mtl__late_ids, &job);
    else mtl__parallel_for(scheduler, (job.count + MTL__PIECE_ROWS - 1) / MTL__PIECE_ROWS, mtl__late_table,
                           &job);
}

/* What a set's `fresh` is while rows wait. */
static void mtl__optimizer_fresh(void *optimizer, const mtl_tensor *t, const int *ids, size_t count)
{
    const mtl__optimizer *o = (const mtl__optimizer *)optimizer;
    size_t i;
    if (t) mtl__table_fresh(o, t->index, ids, count);
    else for (i = 0; i < o->set->count; i++) mtl__table_fresh(o, i, NULL, 0);
}

/* Rows without a gradient may wait from now on, or no longer: where they move at all without one, and no
   average follows each of their updates. */
static void mtl__optimizer_wait(mtl__optimizer *o, const mtl_run *run, int on)
{
    mtl__parameters_settle(o->set);
    o->waits = on && !mtl__update_rows_only(o) && !o->average;
    o->run = run;
    o->set->fresh = o->waits ? mtl__optimizer_fresh : NULL;
    o->set->fresh_owner = o;
}

/* ---- the update of all tensors ------------------------------------------------------------------------- */

/* What the pieces of a tensor's next update count. Where rows wait, every MTL__MOST_LATE-th update is one of
   all rows. */
static int mtl__update_counts(const mtl__optimizer *o, size_t tensor)
{
    const int wait = o->waits && (o->steps[tensor] + 1) % MTL__MOST_LATE != 0;
    if (o->set->tensors[tensor]->role != MTL_TENSOR_EMBEDDING) return MTL__OF_ELEMENTS;
    return o->gradients->of[tensor].state == MTL_GRAD_ROWS && (wait || mtl__update_rows_only(o))
        ? MTL__OF_LIST : MTL__OF_TABLE;
}

static mtl__update mtl__update_of(const mtl__optimizer *o, size_t tensor, double lr, double scale)
{
    const mtl_tensor *t = o->set->tensors[tensor];
    double steps = (double)o->steps[tensor];
    mtl__update u = o->rule;
    u.first = o->steps[tensor] == 1;
    u.lr = lr * (double)t->rate;
    u.correction1 = 1 - pow(u.beta1, steps);
    u.correction2 = 1 - pow(u.beta2, steps);
    u.scale = scale;
    if (t->no_decay || (t->role == MTL_TENSOR_BIAS && !o->desc->decay_biases)) u.l2 = u.l1 = u.decay = 0;
    return u;
}

/* Counts the update of a tensor that has pieces, and makes ready what its jobs share. */
static void mtl__update_begin(mtl__optimizer *o, const mtl__kernels *kernels, size_t tensor)
{
    const mtl_gradient *g = &o->gradients->of[tensor];
    int embedding = o->set->tensors[tensor]->role == MTL_TENSOR_EMBEDDING;
    size_t r;
    if (embedding && g->state == MTL_GRAD_DENSE) {
        if (o->waits) mtl__table_fresh(o, tensor, NULL, 0);
        memset(o->seen[tensor], 1, o->set->tensors[tensor]->shape[0]);
    }
    o->steps[tensor]++;
    for (r = 0; embedding && r < g->row_count; r++) o->seen[tensor][g->rows[r]] = 1;
    if (!o->average || embedding) return;
    mtl__average_catch_up(o, kernels, tensor, 0, 1, o->step);       /* after updates without a gradient of
                                                                       this tensor */
    o->averaged[tensor][0] = o->step + 1;
}

/* Applies the gradients at learning rate lr, scaled by `scale` (clipping), or where a model has several
   connected parts those of each by its own norm. Scratch comes from the run. */
static void mtl__optimizer_apply(mtl__optimizer *o, mtl_run *run, double lr, double scale)
{
    mtl_arena_mark mark = mtl_arena_save(run->arena);
    size_t i, n = 0, count = 0;
    mtl__update *updates = (mtl__update *)mtl_run_push(run, o->set->count * sizeof *updates);
    mtl__piece *pieces;
    mtl__piece_job job;
    for (i = 0; i < o->set->count; i++) count += mtl__pieces_of(o, i, mtl__update_counts(o, i), NULL);
    pieces = (mtl__piece *)mtl_run_push(run, count * sizeof *pieces);
    if (mtl__failed(run->error)) return;    /* the last thing that can fail: nothing has changed yet */
    job.optimizer = o;
    job.kernels = mtl__run_kernels(run);
    job.updates = updates;
    job.pieces = pieces;
    job.sums = NULL;
    for (i = 0; i < o->set->count; i++) {
        size_t more = mtl__pieces_of(o, i, mtl__update_counts(o, i), pieces + n);
        if (!more) continue;
        n += more;
        mtl__update_begin(o, job.kernels, i);
        if (o->components > 1) scale = mtl__clip_scale(o, o->norms[o->set->tensors[i]->component]);
        updates[i] = mtl__update_of(o, i, lr, scale);
        if (o->late[i]) o->late[i][o->steps[i] % MTL__MOST_LATE] = updates[i];
    }
    mtl__run_for(run, count, mtl__update_piece, &job);
    mtl_arena_release(run->arena, mark);
}

/* Most bytes that mtl__optimizer_apply pushes. */
static void mtl__optimizer_measure(const mtl__optimizer *o, mtl_run *run)
{
    (void)mtl_run_push(run, o->set->count * sizeof(mtl__update));
    (void)mtl_run_push(run, mtl__pieces_most(o) * sizeof(mtl__piece));
}

/* ===========================================================================================================
   27 >>data       data sets: batches of chosen sequences, evaluation, samplers
   ===========================================================================================================
   A data set is a batch as large as memory; training and evaluation copy chosen sequences of it into batches.
   Targets of all kinds are checked when a set is opened, so that errors name its sequences and not those of
   some batch.
   -------------------------------------------------------------------------------------------------------- */
/* ---- data sets: batches of chosen sequences ------------------------------------------------------------ */

/* A data set with where each sequence's rows begin. */
typedef struct mtl__dataset {
    const mtl_batch *data;
    size_t *starts;                         /* [sequences] */
    size_t rows;
} mtl__dataset;

static MTL__RARE mtl_status mtl__dataset_init(mtl__dataset *set, const mtl_batch *data,
                                              const mtl_model *model, mtl_arena *arena, mtl_error *err)
{
    size_t s;
    memset(set, 0, sizeof *set);
    if (mtl__batch_check(model, data, err)) return mtl__status(err);
    set->data = data;
    set->starts = (size_t *)mtl__arena_zero(arena, data->sequences, sizeof(size_t), "a data set", err);
    for (s = 0; set->starts && s < data->sequences; s++) {
        set->starts[s] = set->rows;
        set->rows += (size_t)data->lengths[s];
    }
    return mtl__status(err);
}

/* Checks all targets at once, so that errors name sequences of the data set and not of some batch. */
static MTL__RARE mtl_status mtl__dataset_check(const mtl__dataset *set, const mtl_model *model,
                                               mtl_error *err)
{
    const mtl_batch *data = set->data;
    size_t k;
    for (k = 0; data->targets && k < model->desc.task_count; k++) {
        const mtl__task *task = &model->tasks[k];
        size_t labelled = 0;
        double divisor = 0;
        if (task->kind->target == MTL_TARGET_ORIGIN) continue;
        mtl__task_check_target(task, &data->targets[k], err);
        mtl__task_count(task, &data->targets[k], mtl__task_items(task, data->sequences, set->rows),
                        data->lengths, &labelled, &divisor, err);
    }
    return mtl__status(err);
}

/* Chosen sequences of a data set, to be copied into an arena. */
typedef struct mtl__pick {
    const mtl__dataset *set;
    const size_t *chosen;                   /* [count] */
    size_t count, rows;
    mtl_arena *arena;
    mtl_error *err;
} mtl__pick;

/* An array with `size` bytes for each step (or each sequence) of the chosen sequences; NULL stays NULL. */
static const void *mtl__pick_array(const mtl__pick *p, const void *from, size_t size, int per_step)
{
    unsigned char *to = from ? (unsigned char *)mtl__arena_zero(p->arena, per_step ? p->rows : p->count, size,
                                                                "a batch", p->err) : NULL, *out = to;
    size_t i;
    for (i = 0; to && i < p->count; i++) {
        size_t first = per_step ? p->set->starts[p->chosen[i]] : p->chosen[i];
        size_t bytes = size * (per_step ? (size_t)p->set->data->lengths[p->chosen[i]] : 1);
        memcpy(out, (const unsigned char *)from + first * size, bytes);
        out += bytes;
    }
    return to;
}

static const mtl_real *mtl__pick_reals(const mtl__pick *p, const mtl_real *from, size_t width, int per_step)
{
    return (const mtl_real *)mtl__pick_array(p, from, width * sizeof *from, per_step);
}
static const int *mtl__pick_ints(const mtl__pick *p, const int *from, int per_step)
{
    return (const int *)mtl__pick_array(p, from, sizeof *from, per_step);
}

/* The batch of `count` chosen sequences, in `arena`. */
static mtl_batch mtl__dataset_batch(const mtl__dataset *set, const mtl_model *model, const size_t *chosen,
                                    size_t count, mtl_arena *arena, mtl_error *err)
{
    const mtl_model_desc *desc = &model->desc;
    const mtl_input *input = set->data->inputs;
    const mtl_target *target = set->data->targets;
    mtl_input *inputs = (mtl_input *)mtl__arena_zero(arena, desc->input_count, sizeof *inputs, "a batch",
                                                     err);
    mtl_target *targets = target ? (mtl_target *)mtl__arena_zero(arena, desc->task_count, sizeof *targets,
                                                                 "a batch", err) : NULL;
    mtl_batch batch;
    mtl__pick pick;
    size_t i;
    pick.set = set; pick.chosen = chosen; pick.count = count; pick.rows = 0; pick.arena = arena;
    pick.err = err;
    for (i = 0; i < count; i++) pick.rows += (size_t)set->data->lengths[chosen[i]];
    memset(&batch, 0, sizeof batch);
    batch.sequences = count;
    batch.lengths = mtl__pick_ints(&pick, set->data->lengths, 0);
    batch.inputs = inputs;
    batch.targets = targets;
    for (i = 0; inputs && i < model->data_count; i++) {
        inputs[i].ids = mtl__pick_ints(&pick, input[i].ids, 1);
        inputs[i].rows = mtl__pick_reals(&pick, input[i].rows, (size_t)desc->inputs[i].features, 1);
    }
    for (i = 0; targets && i < desc->task_count; i++) {
        int per_step = desc->tasks[i].level == MTL_LEVEL_STEP;
        if (model->tasks[i].kind->target == MTL_TARGET_ORIGIN) continue;
        targets[i].labels = mtl__pick_ints(&pick, target[i].labels, per_step);
        targets[i].values = mtl__pick_reals(&pick, target[i].values, model->tasks[i].part.width, per_step);
        targets[i].distribution = mtl__pick_reals(&pick, target[i].distribution, model->tasks[i].part.width,
                                                  per_step);
        targets[i].unknown = target[i].unknown;
        targets[i].unknown_count = target[i].unknown_count;
        targets[i].strange = (const unsigned *)mtl__pick_array(&pick, target[i].strange, sizeof(unsigned),
                                                               per_step);
    }
    return batch;
}

/* Sorts sequences by falling length, equal ones by number: merges runs of doubling size. scratch: [count]. */
static void mtl__sort_by_length(size_t *items, size_t count, const int *lengths, size_t *scratch)
{
    size_t run, first, i, j, k;
    for (run = 1; run < count; run *= 2) {
        for (first = 0; first < count; first += 2 * run) {
            size_t middle = first + run < count ? first + run : count, end = first + 2 * run < count
                ? first + 2 * run : count;
            for (i = first, j = middle, k = first; k < end; k++)
                scratch[k] = j >= end || (i < middle && lengths[items[i]] >= lengths[items[j]])
                    ? items[i++] : items[j++];
        }
        memcpy(items, scratch, count * sizeof *items);
    }
}

/* ---- evaluation ---------------------------------------------------------------------------------------- */

enum { MTL__EVALUATE_SEQUENCES = 64, MTL__EVALUATE_ROWS = 8192 };   /* a batch of evaluation, where the
                                                                       predictor sets no limit */

typedef struct mtl__evaluation {
    mtl_predictor *predictor;
    void **counts;                          /* [tasks] their kinds' */
    mtl_prediction *out;                    /* [tasks] */
    unsigned char *labelled, *wrong;        /* [sequences of a batch] any label seen; any wrong */
    size_t *const *confusion;
    mtl_scores *scores;
} mtl__evaluation;

/* Adds one batch, predicted already. */
static void mtl__evaluate_add(mtl__evaluation *e, const mtl_batch *batch)
{
    const mtl_model *model = e->predictor->session.model;
    size_t k, s;
    memset(e->labelled, 0, batch->sequences);
    memset(e->wrong, 0, batch->sequences);
    for (k = 0; k < model->desc.task_count; k++) {
        const mtl__task *task = &model->tasks[k];
        mtl_count c;
        memset(&c, 0, sizeof c);
        c.counts = e->counts[k];
        c.target = &batch->targets[k];
        c.answer = &e->out[k];
        c.confusion = e->confusion ? e->confusion[k] : NULL;
        for (s = 0; s < batch->sequences; s++, c.first += c.items) {
            int judged;
            c.items = task->desc->level == MTL_LEVEL_STEP ? (size_t)batch->lengths[s] : 1;
            judged = task->kind->count(&task->part, &c);
            if (judged != MTL_JUDGED_NOT) e->labelled[s] = 1;
            if (judged == MTL_JUDGED_WRONG) e->wrong[s] = 1;
        }
    }
    for (s = 0; s < batch->sequences; s++) {
        e->scores->tokens += (size_t)batch->lengths[s];
        e->scores->joint_items += e->labelled[s];
        e->scores->joint_accuracy += e->labelled[s] && !e->wrong[s];
    }
    e->scores->sequences += batch->sequences;
}

/* How many of the sorted sequences from `first` on make the next batch within the predictor's limits (the
   first is the longest). */
static size_t mtl__evaluate_batch_size(const mtl_predictor *p, const mtl__dataset *set, const size_t *order,
                                       size_t first)
{
    size_t rows = 0, n, most = MTL__EVALUATE_SEQUENCES;
    size_t limit = MTL__EVALUATE_ROWS;
    if (p->session.limits.rows) {
        most = mtl__at_most(most, p->session.limits.sequences);
        limit = mtl__at_most(limit, p->session.limits.rows);
    }
    for (n = 0; n < most && first + n < set->data->sequences; n++) {
        rows += (size_t)set->data->lengths[order[first + n]];
        if (n && rows > limit) break;
    }
    return n;
}

static void mtl__evaluate_set(mtl__evaluation *e, const mtl_batch *data, mtl_arena *arena, mtl_error *err)
{
    mtl_arena_mark mark = mtl_arena_save(arena), inner;
    mtl__dataset set;
    size_t *order, *scratch, first, n, s;
    if (mtl__dataset_init(&set, data, e->predictor->session.model, arena, err)) return;
    mtl__dataset_check(&set, e->predictor->session.model, err);
    order = (size_t *)mtl__arena_zero(arena, data->sequences, sizeof *order, "evaluation", err);
    scratch = (size_t *)mtl__arena_zero(arena, data->sequences, sizeof *scratch, "evaluation", err);
    if (mtl__failed(err)) return;
    for (s = 0; s < data->sequences; s++) order[s] = s;
    mtl__sort_by_length(order, data->sequences, data->lengths, scratch);
    inner = mtl_arena_save(arena);
    for (first = 0; data->targets && first < data->sequences && !mtl__failed(err); first += n) {
        mtl_batch batch;
        n = mtl__evaluate_batch_size(e->predictor, &set, order, first);
        batch = mtl__dataset_batch(&set, e->predictor->session.model, order + first, n, arena, err);
        if (!mtl__failed(err) && !mtl_predict(e->predictor, &batch, e->out, err))
            mtl__evaluate_add(e, &batch);
        mtl_arena_release(arena, inner);
    }
    mtl_arena_release(arena, mark);
}

MTL_DEF mtl_status mtl_evaluate(mtl_predictor *predictor, const mtl_batch *data, size_t count,
                                mtl_scores *scores, size_t *const *confusion, mtl_error *err)
{
    mtl_error own;
    size_t tasks, k, i, scored = 0;
    mtl__evaluation e;
    mtl_arena arena;
    mtl_task_score *table;
    err = mtl__error_given(err, &own);
    if (!mtl__failed(err) && (!predictor || (!data && count) || !scores || !scores->tasks))
        mtl__fail(err, MTL_ERROR_ARGUMENT, !predictor ? "predictor" : !scores || !scores->tasks
                  ? "scores->tasks" : "data", -1, "predictor, data or scores->tasks is NULL");
    if (mtl__failed(err)) return mtl__status(err);
    tasks = predictor->session.model->desc.task_count;
    table = scores->tasks;
    mtl_arena_init(&arena, NULL, 0, NULL);
    memset(scores, 0, sizeof *scores);
    scores->tasks = table;
    scores->task_count = tasks;
    memset(&e, 0, sizeof e);
    e.predictor = predictor;
    e.confusion = confusion;
    e.scores = scores;
    e.counts = (void **)mtl__arena_zero(&arena, tasks, sizeof *e.counts, "evaluation", err);
    e.out = (mtl_prediction *)mtl__arena_zero(&arena, tasks, sizeof *e.out, "evaluation", err);
    e.labelled = (unsigned char *)mtl__arena_zero(&arena, MTL__EVALUATE_SEQUENCES, 1, "evaluation", err);
    e.wrong = (unsigned char *)mtl__arena_zero(&arena, MTL__EVALUATE_SEQUENCES, 1, "evaluation", err);
    for (k = 0; k < tasks && !mtl__failed(err); k++) {
        const mtl__task *task = &predictor->session.model->tasks[k];
        e.counts[k] = mtl__arena_zero(&arena, 1, task->kind->counts + task->part.outputs
                                      * task->kind->counts_each, "evaluation", err);
    }
    for (i = 0; i < count && !mtl__failed(err); i++) mtl__evaluate_set(&e, &data[i], &arena, err);
    for (k = 0; k < tasks && !mtl__failed(err); k++) {
        const mtl__task *task = &predictor->session.model->tasks[k];
        memset(&table[k], 0, sizeof table[k]);
        task->kind->score(&task->part, e.counts[k], &table[k]);
        table[k].kind = task->desc->kind;
        table[k].level = task->desc->level;
        table[k].spans = task->part.spans;
        if (!table[k].items) continue;
        scores->score += table[k].score;
        scored++;
    }
    if (scored) scores->score /= (double)scored;
    if (scores->joint_items) scores->joint_accuracy /= (double)scores->joint_items;
    mtl_arena_destroy(&arena);
    return mtl__status(err);
}

/* ---- samplers: the order of batches --------------------------------------------------------------------
   A sampler decides which set each batch comes from; within a set the order is a matter of its rounds. Both
   depend on the seed and on counts of what was drawn alone, so that a few numbers say where an epoch
   stands. */

/* One data set's batches of an epoch. */
typedef struct mtl__sampler_set {
    mtl__dataset set;
    double weight;
    size_t *order, *scratch, *batch_order;  /* [sequences] shuffled and sorted in pools; [batches] */
    size_t batches, share;                  /* of a round; of an epoch, by its weight */
    size_t next, round, epoch;              /* next: of batch_order; shuffles so far; the last one's epoch */
    size_t drawn;                           /* batches since the start */
} mtl__sampler_set;

typedef struct mtl__sampler {
    const mtl_fit_desc *desc;
    const struct mtl__sampler_kind *kind;
    mtl__sampler_set *sets;
    size_t count, total, drawn;             /* sets; batches of an epoch; batches drawn since the start */
    size_t update;                          /* batches of an update */
    size_t epoch;
    size_t *schedule;                       /* [total] proportional: which set each batch of the epoch comes
                                               from */
} mtl__sampler;

typedef struct mtl__sampler_kind {
    size_t (*choose)(const mtl__sampler *p, size_t i);  /* which set batch number i of the epoch comes from */
    int together;                           /* an update takes so many batches of each set */
} mtl__sampler_kind;

/* A set at random, by weight size^power. */
static MTL__RARE size_t mtl__sampler_draw(const mtl__sampler *p, double power)
{
    double sum = 0, point;
    size_t s, chosen = 0;
    for (s = 0; s < p->count; s++)
        sum += p->sets[s].weight * pow((double)p->sets[s].set.data->sequences, power);
    point = sum * mtl__random_uniform(p->desc->seed, 0x5e7, p->drawn);
    for (s = 0; s < p->count && point >= 0; s++) {
        if (!p->sets[s].share) continue;
        chosen = s;
        point -= p->sets[s].weight * pow((double)p->sets[s].set.data->sequences, power);
    }
    return chosen;
}

static size_t mtl__sampler_proportional(const mtl__sampler *p, size_t i) { return p->schedule[i]; }

static size_t mtl__sampler_temperature(const mtl__sampler *p, size_t i)
{
    (void)i;
    return mtl__sampler_draw(p, 1 / (double)p->desc->temperature);
}

static size_t mtl__sampler_uniform(const mtl__sampler *p, size_t i)
{
    (void)i;
    return mtl__sampler_draw(p, 0);
}

static size_t mtl__sampler_annealed(const mtl__sampler *p, size_t i)
{
    const double last = (double)(p->desc->epochs > 1 ? p->desc->epochs - 1 : 1);
    (void)i;
    return mtl__sampler_draw(p, 1 - (1 - 1 / (double)p->desc->temperature) * (double)(p->epoch - 1) / last);
}

/* The set whose turn is most overdue: of equal weights one after the other. */
static size_t mtl__sampler_in_turn(const mtl__sampler *p, size_t i)
{
    size_t s, chosen = p->count;
    (void)i;
    for (s = 0; s < p->count; s++)
        if (p->sets[s].share && (chosen == p->count ||
                                 (double)(p->sets[s].drawn + 1) * p->sets[chosen].weight
                                     < (double)(p->sets[chosen].drawn + 1) * p->sets[s].weight)) chosen = s;
    return chosen;
}

static const mtl__sampler_kind mtl__sampler_kinds[] = {     /* in the order of MTL_SAMPLER_NAMES */
    { mtl__sampler_proportional, 0 }, { mtl__sampler_in_turn, 0 }, { mtl__sampler_temperature, 0 },
    { mtl__sampler_uniform, 0 }, { mtl__sampler_annealed, 0 }, { mtl__sampler_in_turn, 1 }
};

/* Whether the easy come first in a round that begins in this epoch. */
static int mtl__sampler_by_length(const mtl_fit_desc *d, size_t epoch)
{
    return d->curriculum == MTL_CURRICULUM_LENGTH &&
           (double)epoch <= floor((double)d->curriculum_share * d->epochs + 0.5);
}

/* Shuffles, sorts pools of `bucket` batches by length, cuts batches, shuffles these: similar lengths, random
   order. Where the short come first the pool is the whole set, whose last batch is the first. */
static MTL__RARE void mtl__sampler_shuffle(mtl__sampler_set *s, const mtl_fit_desc *d, size_t number,
                                           size_t epoch)
{
    const int by_length = mtl__sampler_by_length(d, epoch);
    size_t n = s->set.data->sequences, pool = by_length ? n : (size_t)d->batch * (size_t)d->bucket, i;
    uint64_t stream = (uint64_t)number << 40 | (uint64_t)s->round++ << 1;
    for (i = 0; i < n; i++) s->order[i] = i;
    mtl__random_shuffle(s->order, n, d->seed, stream);
    for (i = 0; i < n; i += pool)
        mtl__sort_by_length(s->order + i, n - i < pool ? n - i : pool, s->set.data->lengths, s->scratch);
    for (i = 0; i < s->batches; i++) s->batch_order[i] = by_length ? s->batches - 1 - i : i;
    if (!by_length) mtl__random_shuffle(s->batch_order, s->batches, d->seed, stream | 1);
    s->next = 0;
    s->epoch = epoch;
}

/* A set, its weight and how many of its batches an epoch has. */
static MTL__RARE void mtl__sampler_add(mtl__sampler *p, size_t i, const mtl_batch *data,
                                       const mtl_model *model, mtl_arena *arena, mtl_error *err)
{
    const float *weights = p->desc->sampler_weights;
    mtl__sampler_set *s = &p->sets[i];
    if (mtl__dataset_init(&s->set, data, model, arena, err)
        || mtl__dataset_check(&s->set, model, err)) return;
    if (!data->sequences)
        mtl__fail(err, MTL_ERROR_ARGUMENT, "train", (long long)i, "data set %z has no sequences", i);
    s->weight = weights ? (double)weights[i] : 1;
    if (!mtl__double_is_finite(s->weight) || s->weight < 0 || s->weight > 1e6)
        mtl__fail(err, MTL_ERROR_FIELD, "fit.sampler_weights", (long long)i,
                  "fit.sampler_weights: that of data set %z must lie between 0 and 1000000", i);
    s->batches = (data->sequences + (size_t)p->desc->batch - 1) / (size_t)p->desc->batch;
    s->order = (size_t *)mtl__arena_zero(arena, data->sequences, sizeof(size_t), "data sets", err);
    s->scratch = (size_t *)mtl__arena_zero(arena, data->sequences, sizeof(size_t), "data sets", err);
    s->batch_order = (size_t *)mtl__arena_zero(arena, s->batches, sizeof(size_t), "data sets", err);
    if (mtl__failed(err)) return;
    s->share = (size_t)(s->weight * (double)s->batches + 0.5);
    if (!s->share && s->weight > 0) s->share = 1;
    mtl__sampler_shuffle(s, p->desc, i, 1);
}

static MTL__RARE mtl_status mtl__sampler_init(mtl__sampler *p, const mtl_batch *train, size_t count,
                                    const mtl_model *model, const mtl_fit_desc *desc, mtl_arena *arena,
                                        mtl_error *err)
{
    size_t i, live = 0;
    memset(p, 0, sizeof *p);
    p->desc = desc;
    p->kind = &mtl__sampler_kinds[desc->sampler - MTL_SAMPLER_PROPORTIONAL];
    p->count = count;
    p->epoch = 1;
    p->sets = (mtl__sampler_set *)mtl__arena_zero(arena, count, sizeof *p->sets, "data sets", err);
    for (i = 0; i < count && !mtl__failed(err); i++) {
        mtl__sampler_add(p, i, &train[i], model, arena, err);
        p->total += p->sets[i].share;
        live += p->sets[i].share > 0;
    }
    if (!mtl__failed(err) && !live)
        mtl__fail(err, MTL_ERROR_FIELD, "fit.sampler_weights", -1,
                  "fit.sampler_weights: one must be greater than 0");
    p->schedule = (size_t *)mtl__arena_zero(arena, p->total, sizeof(size_t), "data sets", err);
    p->update = (size_t)desc->accumulate * (p->kind->together ? live : 1);
    if (live && p->kind->together) p->total += (live - p->total % live) % live;
    return mtl__status(err);
}

/* Before an epoch: proportional draws every batch of every set once, in random order. */
static MTL__RARE void mtl__sampler_begin(mtl__sampler *p, size_t epoch)
{
    size_t i, b, n = 0;
    p->epoch = epoch;
    for (i = 0; i < p->count; i++)
        for (b = 0; b < p->sets[i].share; b++) p->schedule[n++] = i;
    mtl__random_shuffle(p->schedule, n, p->desc->seed, (uint64_t)epoch << 20 | 0xabcde);
}

/* Batch number i of the epoch. */
static mtl_batch mtl__sampler_next(mtl__sampler *p, const mtl_model *model, size_t i, mtl_arena *arena,
                                   mtl_error *err)
{
    size_t number = p->kind->choose(p, i), first, count;
    mtl__sampler_set *s = &p->sets[number];
    mtl_batch batch;
    if (s->next == s->batches) mtl__sampler_shuffle(s, p->desc, number, p->epoch);
    first = s->batch_order[s->next++] * (size_t)p->desc->batch;
    count = s->set.data->sequences - first;
    p->drawn++;
    s->drawn++;
    batch = mtl__dataset_batch(&s->set, model, s->order + first, count < (size_t)p->desc->batch
                               ? count : (size_t)p->desc->batch, arena, err);
    batch.set = (int)number;
    return batch;
}

/* ===========================================================================================================
   28 >>train      the step, resume
   ===========================================================================================================
   An update takes micro-batches. Divisors are counted over all of them first, so that their parts of the loss
   add up to the loss of one large batch. Then each micro-batch runs forward and backward in emptied scratch,
   adding to the gradients. Nothing is written to a weight before loss and gradient norm are known to be
   finite. Who calls whom in mtl_train_step, for L = sum over k of lambda_k L_k:

       mtl__trainer_gradients
           mtl__trainer_count               checks targets; D_k, the weight of task k's labelled items in all
                                            micro-batches
           mtl__trainer_micro_batch         for each of them:
               mtl__packing_create          the order of its rows
               mtl__trainer_forward
                   mtl__model_forward       inputs, columns (mtl__columns_forward, mtl__layers_forward), taps
                   mtl__task_loss           for each task k: L_k = 1/D_k times a sum over its labelled items
                       mtl__task_labelled   here a missing label drops out: no later function sees its row
                       mtl__task_input      what the task taps, a row a step or (mtl__pool_forward) a sequence
                       mtl__select_forward  the labelled rows alone
                       mtl__task_head       and what its kind has for `loss`: mtl__loss_forward
                   mtl__penalty_forward     for each penalty, divided by the number of micro-batches
               mtl__balance_backward        dL/dL_k = lambda_k (mtl__tape_seed), then the same way back
                                            (mtl__tape_play): every function above that made rows has left a
                                            record, the last is played first. A record adds to the gradients
                                            of what it read, and the first to write there assigns: rows that
                                            tasks share get the sum over k of lambda_k times what each sends
       mtl__gradients_norm, mtl__optimizer_apply, mtl__parameters_pack
   -------------------------------------------------------------------------------------------------------- */
struct mtl_trainer {
    mtl__session session;
    mtl_model *model;                       /* the session's, which may be written to here */
    mtl_trainer_desc desc;
    mtl_tape tape;
    mtl_gradients *gradients;
    mtl_packings *packings;
    mtl__balance balance;                   /* into `gradients` */
    /* [tasks] of mtl_train_task_gradients, and which is a task's; that of penalties is none of them */
    mtl__balance_group *task_groups;
    size_t *task_group_of;
    mtl__weighting weighting;               /* w_k of the last update */
    mtl__surgery surgery;
    mtl__optimizer optimizer;
    float *weights, *weight_ends;           /* [tasks + penalties] lambda; [tasks] where it moves to, < 0: it
                                               stays */
    double *divisors, *task_loss;           /* [tasks], [tasks + penalties] of the last update */
    double *task_weight;                    /* [tasks] w_k */
    size_t batches;                         /* micro-batches of an update */
    size_t *task_items;
    int averaged;                           /* the model holds the averaged weights just now */
    mtl_error error;                        /* of the run between calls */
};

static mtl_run *mtl__trainer_begin(mtl_trainer *t, mtl_arena *arena, mtl_error *err)
{
    mtl_run *run = mtl__session_begin(&t->session, arena, err);
    memset(&t->tape, 0, sizeof t->tape);
    run->tape = &t->tape;
    run->gradients = t->gradients;
    run->packings = t->packings;
    run->seed = t->desc.seed;
    run->step = t->optimizer.step;
    run->training = 1;
    return run;
}

/* Nothing of what the last pass made can be reached any more. */
static void mtl__trainer_forget(mtl_trainer *t)
{
    memset(&t->tape, 0, sizeof t->tape);
    t->session.run.packing = NULL;
}

static int mtl__task_trains(const mtl_trainer *t, size_t k)
{
    return t->weights[k] > 0 && !t->model->desc.tasks[k].evaluate_only;
}

/* Task k's targets in a batch. Those of an origin task are made: each sequence's label is the batch's. */
static const mtl_target *mtl__trainer_target(const mtl_trainer *t, mtl_run *run, const mtl_batch *batch,
                                             size_t k)
{
    const size_t sequences = run->packing->sequences;
    mtl_target *target;
    int *labels;
    size_t s;
    if (t->model->tasks[k].kind->target != MTL_TARGET_ORIGIN)
        return batch->targets ? &batch->targets[k] : NULL;
    target = (mtl_target *)mtl_run_make(run, sizeof *target);
    labels = (int *)mtl_run_push(run, sequences * sizeof *labels);
    for (s = 0; labels && !mtl__dry(run) && s < sequences; s++) labels[s] = batch->set;
    if (target) target->labels = labels;
    return target;
}

/* Forward pass and losses of one micro-batch; with its packing in run->packing. */
static void mtl__trainer_forward(mtl_trainer *t, const mtl_batch *batch, mtl__losses *losses)
{
    mtl_run *run = &t->session.run;
    const size_t tasks = t->model->desc.task_count, count = tasks + t->model->desc.penalty_count;
    size_t k;
    mtl_activation **nodes;
    losses->value = (mtl_activation **)mtl_run_make(run, count * sizeof *losses->value);
    losses->weight = (mtl_real *)mtl_run_make(run, count * sizeof *losses->weight);
    losses->task = (size_t *)mtl_run_make(run, count * sizeof *losses->task);
    losses->count = 0;
    nodes = mtl__failed(run->error) ? NULL : mtl__model_forward(run, t->model, batch->inputs, batch->state);
    if (nodes) mtl_tape_mark(run);
    for (k = 0; nodes && k < tasks && !mtl__failed(run->error); k++) {
        mtl_activation *loss;
        if (!mtl__task_trains(t, k) || !(t->divisors[k] > 0)) continue;
        run->component = t->model->nodes[t->model->tasks[k].node].component;
        loss = mtl__task_loss(run, &t->model->tasks[k], t->model->nodes, nodes,
                              mtl__trainer_target(t, run, batch, k), t->divisors[k]);
        if (!loss) continue;
        mtl__losses_add(losses, loss, (mtl_real)t->weighting.of[k].weight, k);
    }
    for (; nodes && k < count && !mtl__failed(run->error); k++) {
        mtl_activation *loss = mtl__penalty_forward(run, &t->model->penalties[k - tasks], nodes);
        if (loss) mtl__losses_add(losses, loss, (mtl_real)t->weights[k] / (mtl_real)t->batches, k);
    }
}

static void mtl__trainer_build_task_arrays(mtl_trainer *t, mtl_arena *arena, mtl_error *err)
{
    const mtl_model_desc *d = &t->model->desc;
    const size_t count = d->task_count, all = count + d->penalty_count;
    size_t k;
    t->weights = (float *)mtl__arena_make(arena, all, sizeof *t->weights, "task weights", err);
    t->weight_ends = (float *)mtl__arena_make(arena, count, sizeof *t->weights, "task weights", err);
    t->divisors = (double *)mtl__arena_make(arena, count, sizeof *t->divisors, "divisors", err);
    t->task_loss = (double *)mtl__arena_make(arena, all, sizeof *t->task_loss, "task losses", err);
    t->task_weight = (double *)mtl__arena_make(arena, count, sizeof *t->task_weight, "task weights", err);
    t->task_items = (size_t *)mtl__arena_make(arena, count, sizeof *t->task_items, "task items", err);
    t->task_groups = (mtl__balance_group *)mtl__arena_make(arena, count, sizeof *t->task_groups,
                                                           "groups of tasks", err);
    t->task_group_of = (size_t *)mtl__arena_make(arena, all, sizeof *t->task_group_of, "groups of tasks",
                                                 err);
    t->batches = 1;
    for (k = 0; k < all && !mtl__failed(err); k++) {
        t->weights[k] = k < count ? d->tasks[k].weight : d->penalties[k - count].weight;
        t->task_group_of[k] = count;
        if (k < count) t->weight_ends[k] = d->tasks[k].weight_end;
    }
}

/* What the method of weighting needs to know of the tasks. */
static MTL__RARE void mtl__trainer_build_weighting(mtl_trainer *t, mtl_arena *arena, mtl_error *err)
{
    size_t k;
    if (mtl__weighting_init(&t->weighting, &t->desc, t->model->desc.task_count, arena, err)) return;
    for (k = 0; k < t->weighting.tasks; k++) {
        mtl__weighed *task = &t->weighting.of[k];
        task->outside = t->model->tasks[k].kind->target == MTL_TARGET_ORIGIN
            || t->model->desc.tasks[k].evaluate_only;
        task->numbers = t->model->tasks[k].kind->target == MTL_TARGET_NUMBERS;
        task->steps = t->model->desc.tasks[k].level == MTL_LEVEL_STEP;
    }
}

/* 1 when a list of names, "a+b", holds this one. */
static int mtl__names_hold(const char *names, const char *name)
{
    size_t length = strlen(name);
    for (; *names; names += names[strcspn(names, "+")] ? strcspn(names, "+") + 1 : strlen(names))
        if (strcspn(names, "+") == length && memcmp(names, name, length) == 0) return 1;
    return 0;
}

/* Which tensors task k's loss may write: all but those of columns that do not name it. Returns 1 when there
   are such. */
static int mtl__trainer_permissions(const mtl_trainer *t, size_t k, unsigned char *writes)
{
    const mtl_model *model = t->model;
    size_t i, n;
    int kept_out = 0;
    memset(writes, 1, model->set.count);
    for (i = 0; i < model->desc.column_count; i++) {
        const mtl_column_desc *d = &model->desc.columns[i];
        const mtl__node *node = &model->nodes[model->columns[i].node];
        if (!d->trains || mtl__names_hold(d->trains, model->desc.tasks[k].name)) continue;
        kept_out = 1;
        for (n = 0; n < node->tensor_count; n++) writes[node->first_tensor + n] = 0;
    }
    return kept_out;
}

/* Tasks with equal permissions are a group, one replay each, all into the same gradients. With one group this
   is one replay, as for a model without columns that choose. */
static void mtl__trainer_build_groups(mtl_trainer *t, mtl_arena *arena, mtl_error *err)
{
    const size_t tasks = t->model->desc.task_count, penalties = t->model->desc.penalty_count;
    const size_t tensors = t->model->set.count;
    mtl__balance_group *groups = (mtl__balance_group *)mtl__arena_make(arena, tasks + 1, sizeof *groups,
                                                                       "groups", err);
    size_t *group_of = (size_t *)mtl__arena_make(arena, tasks + penalties, sizeof *group_of, "groups", err);
    size_t k, g;
    int kept_out = 0;
    t->balance.groups = groups;
    for (k = 0; k < tasks && !mtl__failed(err); k++) {
        unsigned char *writes = (unsigned char *)mtl__arena_make(arena, tensors, 1, "groups", err);
        if (!writes) return;
        kept_out |= mtl__trainer_permissions(t, k, writes);
        for (g = 0; g < t->balance.count && memcmp(groups[g].writes, writes, tensors) != 0; g++) {}
        group_of[k] = g;
        if (g < t->balance.count) continue;
        groups[g].gradients = t->gradients;
        groups[g].writes = writes;
        t->balance.count++;
    }
    if (kept_out && penalties) {            /* these may write all */
        groups[t->balance.count].gradients = t->gradients;
        for (k = 0; k < penalties; k++) group_of[tasks + k] = t->balance.count;
        t->balance.count++;
    }
    t->balance.group_of = t->balance.count > 1 ? group_of : NULL;
    if (!kept_out && groups) groups[0].writes = NULL;
    for (k = 0; k < tasks && !mtl__failed(err); k++) t->task_groups[k].writes = groups[group_of[k]].writes;
}

/* How many tasks that a method weighs may write a tensor: those of its part of the model whose columns let
   them. A head is its own task's. */
static MTL__RARE size_t mtl__trainer_writers(const mtl_trainer *t, const mtl_tensor *tensor)
{
    const mtl_model *model = t->model;
    const mtl__balance *b = &t->balance;
    size_t k, i, count = 0;
    for (k = 0; k < model->desc.task_count; k++) {
        const mtl__node *head = &model->nodes[model->tasks[k].node];
        const unsigned char *writes = b->groups[b->group_of ? b->group_of[k] : 0].writes;
        i = tensor->index - head->first_tensor;
        if (tensor->index >= head->first_tensor && i < head->tensor_count) return 1;
        count += !t->weighting.of[k].outside && head->component == tensor->component
            && (!writes || writes[tensor->index]);
    }
    return count;
}

/* Surgery, and norms of tasks' gradients, want two tasks and something that they share and that learns. */
static MTL__RARE void mtl__trainer_check_shared(const mtl_trainer *t, mtl_error *err)
{
    const mtl_model *model = t->model;
    const char *field = t->desc.surgery != MTL_SURGERY_NONE ? "trainer.surgery" : "trainer.balance";
    const char *name = t->desc.surgery != MTL_SURGERY_NONE
        ? mtl__choices_MTL_SURGERY[t->desc.surgery - MTL_SURGERY_NONE].name
        : mtl__choices_MTL_BALANCE[t->desc.balance - MTL_BALANCE_STATIC].name;
    size_t i, k, tasks = 0, shared = 0, frozen = 0;
    for (k = 0; k < model->desc.task_count; k++)
        tasks += !t->weighting.of[k].outside;
    for (i = 0; i < model->set.count; i++)
        if (mtl__trainer_writers(t, model->set.tensors[i]) > 1) {
            shared += !model->set.tensors[i]->frozen;
            frozen += model->set.tensors[i]->frozen != 0;
        }
    if (tasks < 2 || shared == 0)
        mtl__fail(err, MTL_ERROR_FIELD, field, (long long)tasks, "%s: %s wants %s; leave it out", field, name,
                  tasks < 2 ? "two tasks that are trained at least"
                  : frozen  ? "parameters that tasks share, and all of them are frozen"
                            : "parameters that tasks share, and these share none");
}

/* With surgery, or a method that looks at norms, each task is a group with gradients of its own; those that
   stand outside, and penalties, write to the trainer's. */
static MTL__RARE void mtl__trainer_build_surgery(mtl_trainer *t, mtl_arena *arena, mtl_error *err)
{
    const size_t tasks = t->model->desc.task_count, penalties = t->model->desc.penalty_count;
    mtl__balance_group *groups;
    size_t k, *group_of;
    if (t->desc.surgery == MTL_SURGERY_NONE && !t->weighting.kind->norms) return;
    mtl__trainer_check_shared(t, err);
    groups = (mtl__balance_group *)mtl__arena_make(arena, tasks + 1, sizeof *groups, "groups", err);
    group_of = (size_t *)mtl__arena_make(arena, tasks + penalties, sizeof *group_of, "groups", err);
    if (!mtl__failed(err))
        mtl__surgery_build(&t->surgery, &t->desc, t->gradients, &t->weighting, arena, err);
    for (k = 0; k < tasks + penalties && !mtl__failed(err); k++) {
        const mtl__balance *old = &t->balance;
        group_of[k] = mtl__at_most(k, tasks);
        groups[group_of[k]].gradients = t->gradients;
        if (k >= tasks) continue;
        if (t->surgery.of[k]) groups[k].gradients = t->surgery.of[k];
        groups[k].writes = old->groups[old->group_of ? old->group_of[k] : 0].writes;
        t->surgery.component[k] = t->model->nodes[t->model->tasks[k].node].component;
    }
    if (mtl__failed(err)) return;
    groups[tasks].gradients = t->gradients;
    t->balance.groups = groups;
    t->balance.count = tasks + 1;
    t->balance.group_of = group_of;
}

static MTL__RARE void mtl__trainer_build(mtl__session *session, mtl_arena *arena, mtl_error *err)
{
    mtl_trainer *t = (mtl_trainer *)(void *)session;
    const mtl_trainer_desc *d = &t->desc;
    t->model = session->model;
    mtl__trainer_build_task_arrays(t, arena, err);
    mtl__trainer_build_weighting(t, arena, err);
    t->gradients = mtl_gradients_create(&t->model->set, arena, err);
    t->packings = mtl__packings_build(&t->model->set, mtl__precision_choose(mtl__kernels_choose(d->isa),
                                                                            d->precision), arena, err);
    if (!mtl__failed(err)) mtl__trainer_build_groups(t, arena, err);
    if (!mtl__failed(err)) mtl__trainer_build_surgery(t, arena, err);
    if (!mtl__failed(err)) mtl__optimizer_init(&t->optimizer, d, &t->model->set, t->gradients, arena, err);
    mtl__session_start(session, arena, d->isa, d->threads, d->scheduler,
                       mtl__limits_of(d->max_rows, d->max_sequences, d->max_steps), err);
}

/* Dry runs of the largest batch, forward and backward, and of the norm and the update. Backward twice: when a
   tape is played again, the gradients of all activations are there already, below each record's scratch. */
static MTL__RARE size_t mtl__trainer_measure(mtl__session *session, mtl_error *err)
{
    mtl_trainer *t = (mtl_trainer *)(void *)session;
    mtl_arena counting, shadow;
    mtl_arena_mark tape;
    mtl__losses losses;
    mtl_target *targets;
    mtl_batch batch;
    mtl_run *run;
    size_t k;
    memset(&batch, 0, sizeof batch);
    mtl__arena_init_counting(&counting, &shadow);
    run = mtl__trainer_begin(t, &counting, err);
    batch.state = mtl_state_create(t->model, 0, err);
    batch.targets = targets = (mtl_target *)mtl__arena_zero(&shadow, t->model->desc.task_count,
                                                            sizeof *targets, "targets", err);
    for (k = 0; k < t->model->desc.task_count && !mtl__failed(err); k++) t->divisors[k] = 1;
    run->packing = mtl__packing_push(&counting, session->limits.sequences, session->limits.rows,
                                     session->limits.steps, err);
    if (!mtl__failed(err)) mtl__trainer_forward(t, &batch, &losses);
    for (k = 0; k < 2 && !mtl__failed(err); k++) mtl__balance_backward(run, &t->balance, &losses);
    tape = mtl_arena_save(&counting);       /* norm and update push above the tape, which stays to be looked
                                               at */
    mtl__norm_measure(&t->optimizer, run);
    mtl_arena_release(&counting, tape);
    if (t->surgery.of) mtl__surgery_measure(&t->surgery, run);
    mtl_arena_release(&counting, tape);
    mtl__optimizer_measure(&t->optimizer, run);
    mtl_state_destroy(batch.state);
    mtl_arena_destroy(&shadow);
    mtl__trainer_forget(t);
    return counting.high_water;
}

static const mtl__session_kind mtl__trainer_kind = {
    "trainer", sizeof(mtl_trainer), MTL_DESC_TRAINER, offsetof(mtl_trainer, desc), sizeof(mtl_trainer_desc),
    mtl__trainer_build, mtl__trainer_measure
};

MTL_DEF size_t mtl_trainer_size(const mtl_model *model, const mtl_trainer_desc *desc, mtl_error *err)
{
    mtl_error own;
    return mtl__session_size(&mtl__trainer_kind, mtl__model_of(model), desc, mtl__error_given(err, &own));
}

/* A new trainer, or NULL: penalties take what they need of the model as it is now. */
static mtl_trainer *mtl__trainer_made(mtl__session *session)
{
    mtl_model *model = session ? session->model : NULL;
    size_t i;
    if (model && model->desc.penalty_count) mtl__parameters_settle(&model->set);
    for (i = 0; model && i < model->desc.penalty_count; i++)
        if (model->penalties[i].kind->begin) model->penalties[i].kind->begin(&model->penalties[i].part);
    return (mtl_trainer *)(void *)session;
}

MTL_DEF mtl_trainer *mtl_trainer_init(void *buffer, size_t bytes, mtl_model *model,
                                      const mtl_trainer_desc *desc, mtl_error *err)
{
    mtl_error own;
    err = mtl__error_given(err, &own);
    return mtl__trainer_made(mtl__session_init(&mtl__trainer_kind, buffer, bytes, model, desc, err));
}

MTL_DEF mtl_trainer *mtl_trainer_create(mtl_model *model, const mtl_trainer_desc *desc, mtl_error *err)
{
    mtl_error own;
    return mtl__trainer_made(mtl__session_create(&mtl__trainer_kind, model, desc,
                                                 mtl__error_given(err, &own)));
}

MTL_DEF void mtl_trainer_destroy(mtl_trainer *trainer)
{
    mtl__session_destroy(trainer ? &trainer->session : NULL);
}

MTL_DEF mtl_status mtl_trainer_set_weight(mtl_trainer *trainer, int task, float weight, mtl_error *err)
{
    mtl_error own;
    err = mtl__error_given(err, &own);
    if (!mtl__given(trainer, "trainer", err) || !mtl__model_check_index(trainer->model, "task", task, err))
        return mtl__status(err);
    if (!mtl__is_finite((mtl_real)weight) || weight < 0)
        return mtl__fail(err, MTL_ERROR_NUMBER, trainer->model->desc.tasks[task].name, task,
                         "the weight of task %s must be a number of at least 0",
                             trainer->model->desc.tasks[task].name);
    trainer->weights[task] = weight;
    trainer->weight_ends[task] = -1;
    return MTL_OK;
}

MTL_DEF void mtl_trainer_set_lr(mtl_trainer *trainer, float lr) 
{
    if (trainer) trainer->optimizer.lr = lr;
}

MTL_DEF void mtl_trainer_observe(mtl_trainer *trainer, mtl_observer observer, void *user)
{
    if (trainer) mtl__session_observe(&trainer->session, observer, user);
}

MTL_DEF mtl_run *mtl_trainer_run(mtl_trainer *trainer) { return trainer ? &trainer->session.run : NULL; }
MTL_DEF int mtl_trainer_precision(const mtl_trainer *trainer)
{
    return !trainer ? MTL_PRECISION_DEFAULT : trainer->packings->pairs
        ? MTL_PRECISION_BF16 : MTL_PRECISION_F32;
}
MTL_DEF mtl_gradients *mtl_trainer_gradients(mtl_trainer *trainer)
{
    return trainer ? trainer->gradients : NULL;
}

/* ---- the step ------------------------------------------------------------------------------------------ */

/* Counts an origin task's items: every sequence has the label of its batch. */
static void mtl__trainer_count_origin(mtl_trainer *t, const mtl_batch *batch, size_t k, mtl_error *err)
{
    mtl_target one;
    size_t labelled = 0, s;
    double divisor = 0;
    memset(&one, 0, sizeof one);
    one.labels = &batch->set;
    for (s = 0; s < batch->sequences && !mtl__failed(err); s++) {
        mtl__task_count(&t->model->tasks[k], &one, 1, batch->lengths + s, &labelled, &divisor, err);
    }
    t->task_items[k] += labelled;
    t->divisors[k] += divisor;
}

/* Sequences of a batch that have a labelled step. */
static MTL__NOINLINE size_t mtl__trainer_count_sequences(const mtl__task *task, const mtl_target *target,
                                           const mtl_batch *batch)
{
    size_t s, row = 0, count = 0;
    int n, found;
    for (s = 0; target && s < batch->sequences; s++, count += (size_t)found)
        for (n = found = 0; n < batch->lengths[s]; n++, row++)
            if (!found) found = mtl__target_is_given(target, row, task->part.width);
    return count;
}

/* Labelled items and divisors of every task over all micro-batches; checks every target. */
static void mtl__trainer_count(mtl_trainer *t, const mtl_batch *batches, size_t count, mtl_error *err)
{
    size_t i, k, s;
    for (k = 0; k < t->model->desc.task_count; k++) {
        t->divisors[k] = t->task_loss[k] = 0;
        t->task_items[k] = t->weighting.of[k].sequences = 0;
    }
    for (i = 0; i < t->model->desc.penalty_count; i++) t->task_loss[k + i] = 0;
    for (i = 0; i < count && !mtl__batch_check(t->model, &batches[i], err); i++) {
        size_t rows = 0;
        for (s = 0; s < batches[i].sequences; s++) rows += (size_t)batches[i].lengths[s];
        for (k = 0; k < t->model->desc.task_count; k++) {
            const mtl_target *target = batches[i].targets ? &batches[i].targets[k] : NULL;
            if (t->model->tasks[k].kind->target == MTL_TARGET_ORIGIN) {
                mtl__trainer_count_origin(t, &batches[i], k, err);
                continue;
            }
            mtl__task_check_target(&t->model->tasks[k], target, err);
            mtl__task_count(&t->model->tasks[k], target,
                            mtl__task_items(&t->model->tasks[k], batches[i].sequences, rows),
                                batches[i].lengths, &t->task_items[k], &t->divisors[k], err);
            if (t->weighting.of[k].steps && !mtl__failed(err))
                t->weighting.of[k].sequences += mtl__trainer_count_sequences(&t->model->tasks[k], target,
                                                                             &batches[i]);
        }
    }
}

/* lambda_k of the update that comes. */
static double mtl__trainer_lambda(const mtl_trainer *t, size_t k)
{
    const double from = (double)t->weights[k], to = (double)t->weight_ends[k];
    const double total = (double)t->optimizer.total_steps, step = (double)t->optimizer.step + 1;
    return to < 0 || total <= 0 ? from : from + (to - from) * (step < total ? step / total : 1);
}

/* The weights of an update, whose items are counted. */
static MTL__RARE MTL__NOINLINE void mtl__trainer_weigh(mtl_trainer *t, mtl_error *err)
{
    mtl__weighting *w = &t->weighting;
    size_t k;
    if (w->kind->windows && !w->window)
        mtl__fail(err, MTL_ERROR_FIELD, "trainer.balance_window", 0, "trainer.balance_window must say how "
                  "many updates a window has, unless mtl_fit trains: then it is an epoch");
    w->step = t->optimizer.step;
    for (k = 0; k < w->tasks; k++) {
        w->of[k].lambda = mtl__trainer_lambda(t, k);
        w->of[k].items = t->task_items[k];
        w->of[k].labelled = mtl__task_trains(t, k) && t->divisors[k] > 0;
    }
    if (!mtl__failed(err)) mtl__weighting_begin(w);
    for (k = 0; k < w->tasks; k++) t->task_weight[k] = w->of[k].weight;
}

/* One micro-batch: forward, losses, backward. Returns its rows. */
static size_t mtl__trainer_micro_batch(mtl_trainer *t, const mtl_batch *batch, const mtl__balance *balance)
{
    mtl_run *run = &t->session.run;
    mtl_packing *packing;
    mtl__losses losses;
    size_t i;
    mtl__arena_reset(&t->session.scratch);
    mtl__trainer_forget(t);
    packing = mtl__packing_create(&t->session.scratch, batch->lengths, batch->sequences, run->error);
    run->packing = packing;
    if (!packing || mtl__limits_check(&t->session.limits, packing, run->error)) return 0;
    mtl__trainer_forward(t, batch, &losses);
    if (mtl__failed(run->error)) return 0;
    for (i = 0; i < losses.count; i++) {
        mtl_real value = losses.value[i]->value[0];
        const size_t task = losses.task[i], tasks = t->model->desc.task_count;
        const char *name = task < tasks ? t->model->desc.tasks[task].name
            : t->model->desc.penalties[task - tasks].name;
        if (!mtl__is_finite(value))
            mtl__fail(run->error, MTL_ERROR_NUMBER, name, -1, task < tasks
                      ? "the loss of task %s is not a finite number; no weight was changed"
                      : "the penalty %s is not a finite number; no weight was changed", name);
        t->task_loss[losses.task[i]] += (double)value;
    }
    mtl__balance_backward(run, balance, &losses);
    return packing->rows;
}

/* Forward and backward of all micro-batches, into the gradients of `balance`. */
static mtl_status mtl__trainer_gradients(mtl_trainer *trainer, const mtl_batch *batches, size_t count,
                                         const mtl__balance *balance, mtl_step *step, mtl_error *err)
{
    uint64_t before = mtl__arithmetic_set();
    const mtl_model_desc *d = &trainer->model->desc;
    size_t i, k, rows = 0;
    double loss = 0, penalties = 0;
    trainer->batches = count;
    mtl__trainer_count(trainer, batches, count, err);
    if (!mtl__failed(err)) mtl__trainer_weigh(trainer, err);
    (void)mtl__trainer_begin(trainer, &trainer->session.scratch, err);
    if (!mtl__failed(err)) {
        mtl_packings_prepare(trainer->packings, &trainer->session.run);
        mtl__balance_reset(balance);
    }
    for (i = 0; i < count && !mtl__failed(err); i++)
        rows += mtl__trainer_micro_batch(trainer, &batches[i], balance);
    if (balance == &trainer->balance && trainer->surgery.of && !mtl__failed(err))
        mtl__surgery_finish(&trainer->surgery, &trainer->weighting, &trainer->session.run);
    for (k = 0; k < d->task_count; k++) loss += trainer->task_weight[k] * trainer->task_loss[k];
    for (; k < d->task_count + d->penalty_count; k++)
        penalties += (double)trainer->weights[k] * trainer->task_loss[k] / (double)count;
    if (step) {
        memset(step, 0, sizeof *step);
        step->step = (size_t)trainer->optimizer.step;
        step->loss = loss + penalties;
        step->penalty_loss = penalties;
        step->tokens = rows;
        step->task_count = d->task_count;
        step->task_loss = trainer->task_loss;
        step->task_items = trainer->task_items;
        step->task_weight = trainer->task_weight;
        step->grad_norm = mtl__failed(err) || balance != &trainer->balance
            ? 0 : mtl__gradients_norm(&trainer->optimizer, &trainer->session.run);
    }
    mtl__arithmetic_restore(before);
    mtl_error_clear(&trainer->error);
    trainer->session.run.error = &trainer->error;
    return mtl__status(err);
}

/* 1 when there is something to train with. */
static int mtl__train_check(const mtl_trainer *trainer, const mtl_batch *batches, size_t count,
                            mtl_error *err)
{
    if (!mtl__failed(err) && (!trainer || !batches || !count))
        mtl__fail(err, MTL_ERROR_ARGUMENT, trainer ? "batches" : "trainer", -1,
                  "a step needs a trainer and one batch at least");
    return !mtl__failed(err);
}

MTL_DEF mtl_status mtl_train_gradients(mtl_trainer *trainer, const mtl_batch *batches, size_t count,
                                       mtl_step *step, mtl_error *err)
{
    mtl_error own;
    err = mtl__error_given(err, &own);
    if (!mtl__train_check(trainer, batches, count, err)) return mtl__status(err);
    return mtl__trainer_gradients(trainer, batches, count, &trainer->balance, step, err);
}

MTL_DEF mtl_status mtl_train_task_gradients(mtl_trainer *trainer, const mtl_batch *batches, size_t count,
                                            mtl_gradients *const *of, mtl_step *step, mtl_error *err)
{
    mtl_error own;
    mtl__balance balance;
    size_t k;
    err = mtl__error_given(err, &own);
    if (!mtl__train_check(trainer, batches, count, err) || !mtl__given(of, "of", err))
        return mtl__status(err);
    balance.groups = trainer->task_groups;
    balance.count = trainer->model->desc.task_count;
    balance.group_of = trainer->task_group_of;
    for (k = 0; k < balance.count; k++) {
        size_t *group = &trainer->task_group_of[k];
        if (of[k] && of[k]->set != &trainer->model->set)
            return mtl__fail(err, MTL_ERROR_ARGUMENT, "of", (long long)k, "of[%z] was made for another "
                             "model's parameters; use mtl_model_parameters of the trainer's model", k);
        trainer->task_groups[k].gradients = of[k];
        *group = 0;
        while (of[*group] != of[k] || trainer->task_groups[*group].writes != trainer->task_groups[k].writes)
            ++*group;
    }
    return mtl__trainer_gradients(trainer, batches, count, &balance, step, err);
}

static MTL__RARE void mtl__trainer_learn_weights(mtl_trainer *t, double lr)
{
    size_t k;
    t->weighting.kernels = mtl__run_kernels(&t->session.run);
    t->weighting.rule = &t->optimizer.rule;
    t->weighting.lr = lr;
    for (k = 0; k < t->weighting.tasks; k++) t->weighting.of[k].loss = t->task_loss[k];
    mtl__weighting_learn(&t->weighting);
    if (t->surgery.of)
        memcpy(t->surgery.state, t->surgery.next, t->weighting.tasks * t->weighting.tasks * sizeof(double));
}

MTL_DEF mtl_status mtl_train_step(mtl_trainer *trainer, const mtl_batch *batches, size_t count,
                                  mtl_step *step, mtl_error *err)
{
    mtl_error own;
    mtl_step measured;
    double lr;
    uint64_t before;
    err = mtl__error_given(err, &own);
    if (!mtl__failed(err) && trainer && trainer->averaged)
        mtl__fail(err, MTL_ERROR_ARGUMENT, "average", -1,
                  "the model holds its averaged weights; swap them back before training");
    if (mtl_train_gradients(trainer, batches, count, &measured, err)) return mtl__status(err);
    if (!mtl__double_is_finite(measured.grad_norm))
        return mtl__fail(err, MTL_ERROR_NUMBER, "gradient", -1,
                         "the gradient is not finite; no weight was changed");
    before = mtl__arithmetic_set();
    trainer->session.run.error = err;
    lr = (double)trainer->optimizer.lr * mtl__schedule(&trainer->optimizer, trainer->optimizer.step + 1);
    mtl__optimizer_apply(&trainer->optimizer, &trainer->session.run, lr,
                         mtl__clip_scale(&trainer->optimizer, measured.grad_norm));
    if (!mtl__failed(err)) mtl__trainer_learn_weights(trainer, lr);
    mtl__arithmetic_restore(before);
    trainer->session.run.error = &trainer->error;
    if (mtl__failed(err)) return mtl__status(err);
    trainer->optimizer.step++;
    mtl__parameters_pack(&trainer->model->set, mtl__run_kernels(&trainer->session.run),
                         trainer->session.run.scheduler, NULL);
    measured.step = (size_t)trainer->optimizer.step;
    measured.lr = lr;
    if (step) *step = measured;
    return MTL_OK;
}

MTL_DEF mtl_status mtl_trainer_swap_average(mtl_trainer *trainer, mtl_error *err)
{
    mtl_error own;
    mtl__optimizer *o;
    size_t i;
    err = mtl__error_given(err, &own);
    if (!mtl__given(trainer, "trainer", err)) return mtl__status(err);
    o = &trainer->optimizer;
    if (!o->average)
        return mtl__fail(err, MTL_ERROR_ARGUMENT, "average", -1,
                         "this trainer keeps no average; set trainer.average");
    mtl__average_finish(o, mtl__kernels_choose(trainer->desc.isa));     /* there may have been no step yet */
    for (i = 0; i < o->set->total; i++) {
        mtl_real held = o->average[i];
        o->average[i] = o->set->block[i];
        o->set->block[i] = held;
    }
    trainer->averaged = !trainer->averaged;
    return mtl_model_prepare(trainer->model, err);
}

/* ---- resume: optimiser state as further tensors -----------------------------------------------------------
   optimizer.m.NAME, .v.NAME, .average.NAME of the parameter's shape; optimizer.counts: steps [tensors],
   updates, plateau factor and rate, whole numbers and floats as doubles; optimizer.rule: MTL_OPTIMIZER_* as a
   double, which files of earlier builds lack. Checkpoints have further doubles: optimizer.weights, lambda of
   tasks and penalties; optimizer.averaged, which update the average of each unit (mtl__average_units, of all
   tensors) has seen last: to make up for what it is late by would round, and a checkpoint changes no bit. */
typedef struct mtl__moment { const char *name; mtl_real *block; } mtl__moment;

static void mtl__moments_of(const mtl__optimizer *o, mtl__moment moments[3])
{
    moments[0].name = "m";
    moments[0].block = o->m;
    moments[1].name = "v";
    moments[1].block = o->v;
    moments[2].name = "average";
    moments[2].block = o->average;
}

static size_t mtl__trainer_lambdas(const mtl_trainer *t)
{
    return t->model->desc.task_count + t->model->desc.penalty_count;
}

/* The optimiser's counts as doubles: [tensors] steps, then updates, plateau, lr; behind them its rule. */
static MTL__RARE double *mtl__optimizer_counts(const mtl__optimizer *o, mtl_arena *arena, mtl_error *err)
{
    double *counts =
        (double *)mtl__arena_zero(arena, o->set->count + 4, sizeof *counts, "optimiser counts", err);
    size_t i;
    if (!counts) return NULL;
    for (i = 0; i < o->set->count; i++) counts[i] = (double)o->steps[i];
    counts[i] = (double)o->step;
    counts[i + 1] = (double)o->plateau;
    counts[i + 2] = (double)o->lr;
    counts[i + 3] = (double)o->desc->optimizer;
    return counts;
}

/* balance.rule [2]: MTL_BALANCE_*, MTL_SURGERY_*; balance.weights [2][tasks]: lambda and where it moves to;
   balance.state [tasks][..]: what the method keeps; balance.pairs [tasks][tasks]: what surgery keeps.
   Doubles; files without them have static weights, those of the descs, and no surgery. */
static MTL__RARE size_t mtl__balance_entry_count(const mtl_trainer *t)
{
    const size_t tasks = t->model->desc.task_count;
    size_t k;
    for (k = 0; k < tasks; k++)
        if (t->weights[k] != t->model->desc.tasks[k].weight
            || t->weight_ends[k] != t->model->desc.tasks[k].weight_end) break;
    if (k == tasks && t->desc.balance == MTL_BALANCE_STATIC && t->desc.surgery == MTL_SURGERY_NONE) return 0;
    return 2 + (size_t)(t->weighting.kind->state > 0) + (size_t)(t->surgery.of && t->surgery.kind->pairs);
}

static MTL__RARE void mtl__balance_entries(const mtl_trainer *t, mtl__tensor_entry *e, mtl_arena *arena,
                                           mtl_error *err)
{
    const size_t tasks = t->model->desc.task_count, count = mtl__balance_entry_count(t);
    double *numbers = (double *)mtl__arena_zero(arena, 2 + 2 * tasks, sizeof *numbers, "task weights", err);
    size_t k;
    if (!count || !numbers) return;
    numbers[0] = (double)t->desc.balance;
    numbers[1] = (double)t->desc.surgery;
    for (k = 0; k < tasks; k++) {
        numbers[2 + k] = (double)t->weights[k];
        numbers[2 + tasks + k] = (double)t->weight_ends[k];
    }
    mtl__entry_set(&e[0], "balance.rule", MTL_TYPE_F64, 2, 0, numbers);
    mtl__entry_set(&e[1], "balance.weights", MTL_TYPE_F64, 2, tasks, numbers + 2);
    if (t->surgery.of && t->surgery.kind->pairs)
        mtl__entry_set(&e[count - 1], "balance.pairs", MTL_TYPE_F64, tasks, tasks, t->surgery.state);
    if (t->weighting.kind->state)
        mtl__entry_set(&e[2], "balance.state", MTL_TYPE_F64, tasks, t->weighting.kind->state,
                       t->weighting.state);
}

static MTL__RARE size_t mtl__average_total(const mtl__optimizer *o)
{
    size_t i, total = 0;
    for (i = 0; o->average && i < o->set->count; i++) total += mtl__average_units(o->set->tensors[i]);
    return total;
}

/* optimizer.averaged and optimizer.weights. Returns how many entries these are. */
static MTL__RARE size_t mtl__trainer_count_entries(const mtl_trainer *t, mtl__tensor_entry *e,
                                                   mtl_arena *arena, mtl_error *err)
{
    const mtl__optimizer *o = &t->optimizer;
    const size_t units = mtl__average_total(o), lambdas = mtl__trainer_lambdas(t);
    double *values = (double *)mtl__arena_zero(arena, units + lambdas, sizeof *values, "counts", err), *to;
    size_t i, k, n = 0;
    for (i = 0, to = values; values && units && i < o->set->count; i++)
        for (k = 0; k < mtl__average_units(o->set->tensors[i]); k++) *to++ = (double)o->averaged[i][k];
    for (k = 0; values && k < lambdas; k++) to[k] = (double)t->weights[k];
    if (units) mtl__entry_set(&e[n++], "optimizer.averaged", MTL_TYPE_F64, units, 0, values);
    mtl__entry_set(&e[n++], "optimizer.weights", MTL_TYPE_F64, lambdas, 0, values ? values + units : NULL);
    return n;
}

static MTL__RARE void mtl__trainer_entries(const void *owner, mtl__tensor_entry *e, mtl_arena *arena,
                                           mtl_error *err)
{
    const mtl_trainer *t = (const mtl_trainer *)owner;
    const mtl__optimizer *o = &t->optimizer;
    const double *counts = mtl__optimizer_counts(o, arena, err);
    mtl__moment moments[3];
    char name[192];
    size_t i, k, n = 0;
    mtl__moments_of(o, moments);
    for (k = 0; k < 3; k++)
        for (i = 0; moments[k].block && i < o->set->count; i++) {
            const mtl_tensor *p = o->set->tensors[i];
            mtl__print(name, sizeof name, "optimizer.%s.%s", moments[k].name, p->name);
            mtl__entry_of_tensor(&e[n++], mtl__arena_text(arena, name, err), p, moments[k].block + p->offset);
        }
    mtl__entry_set(&e[n++], "optimizer.counts", MTL_TYPE_F64, o->set->count + 3, 0, counts);
    mtl__entry_set(&e[n], "optimizer.rule", MTL_TYPE_F64, 1, 0, counts ? counts + o->set->count + 3 : NULL);
    mtl__balance_entries(t, &e[n + 1], arena, err);
}

static MTL__RARE size_t mtl__trainer_entry_count(const mtl_trainer *t)
{
    const mtl__optimizer *o = &t->optimizer;
    return o->set->count * ((o->m != NULL) + (size_t)(o->v != NULL) + (o->average != NULL)) + 2
        + mtl__balance_entry_count(t);
}

static mtl__further mtl__trainer_further(const mtl_trainer *trainer)
{
    mtl__further more;
    if (trainer) mtl__average_finish(&trainer->optimizer, mtl__kernels_choose(trainer->desc.isa));
    more.owner = trainer;
    more.count = trainer ? mtl__trainer_entry_count(trainer) : 0;
    more.entries = mtl__trainer_entries;
    return more;
}

MTL_DEF mtl_status mtl_model_write(const mtl_model *model, const mtl_trainer *trainer,
                                   const mtl_writer *writer, mtl_error *err)
{
    mtl_error own;
    const mtl__further more = mtl__trainer_further(trainer);
    return mtl__model_write(model, trainer ? &more : NULL, writer, mtl__error_given(err, &own));
}

MTL_DEF mtl_status mtl_trainer_save(const mtl_trainer *trainer, const char *path, mtl_error *err)
{
    mtl_error own;
    const mtl__further more = mtl__trainer_further(trainer);
    return mtl__model_save(trainer ? trainer->model : NULL, &more, path, mtl__error_given(err, &own));
}

/* The counts' tensor, checked. */
static MTL__RARE const mtl_safetensor *mtl__resume_counts(const mtl_trainer *t, const mtl_safetensors *file,
                                                mtl_error *err)
{
    const mtl_safetensor *counts = mtl_safetensors_find(file, "optimizer.counts");
    if (mtl__failed(err)) return NULL;
    if (!counts)
        mtl__fail(err, MTL_ERROR_TENSOR, "optimizer.counts", -1,
                  "the file holds no optimiser state; it was saved without a trainer");
    else if (counts->type != MTL_TYPE_F64 || counts->dims != 1 ||
             counts->count != t->optimizer.set->count + 3)
        mtl__fail(err, MTL_ERROR_TENSOR, "optimizer.counts", -1, "tensor optimizer.counts must be %z doubles",
                  t->optimizer.set->count + 3);
    return mtl__failed(err) ? NULL : counts;
}

/* Refuses state that another rule has made, since the same moments mean something else there, and state that
   this trainer has no place for: without it training would go on as another one than was saved. */
static MTL__RARE mtl_status mtl__resume_check(const mtl_trainer *t, const mtl_safetensors *file,
                                              mtl_error *err)
{
    static const char *const fields[3] = { "momentum", "optimizer", "average" };
    const mtl_safetensor *rule = mtl_safetensors_find(file, "optimizer.rule");
    const mtl_choice *theirs = mtl__choices_MTL_OPTIMIZER, *ours = theirs;
    mtl__moment moments[3];
    double saved = rule ? -1 : (double)t->desc.optimizer;
    char name[192];
    size_t k;
    if (mtl__failed(err)) return mtl__status(err);
    if (rule && rule->type == MTL_TYPE_F64 && rule->count == 1) memcpy(&saved, rule->data, sizeof saved);
    while (theirs->name && (double)theirs->value != saved) theirs++;
    while (ours->value != t->desc.optimizer) ours++;
    if (theirs != ours)
        return mtl__fail(err, MTL_ERROR_TENSOR, "optimizer.rule", -1,
                         "the file holds the state of %s, and the trainer is one of %s: "
                         "create it with the file's optimizer, or go on from the weights alone",
                         theirs->name ? theirs->name : "an optimizer that this build does not know",
                         ours->name);
    mtl__moments_of(&t->optimizer, moments);
    for (k = 0; k < 3; k++) {
        mtl__print(name, sizeof name, "optimizer.%s.%s", moments[k].name, t->optimizer.set->tensors[0]->name);
        if (!moments[k].block && mtl_safetensors_find(file, name))
            return mtl__fail(err, MTL_ERROR_TENSOR, name, -1,
                             "the file holds %s, for which this trainer has no place: create it with "
                             "the %s of the one that was saved, or go on from the weights alone",
                             name, fields[k]);
    }
    return MTL_OK;
}

/* A tensor of `count` doubles into out. Returns 0, and changes nothing, when the file has none such or a
   number is not finite: `what` is then an error, or NULL. */
static MTL__RARE int mtl__resume_doubles(const mtl_safetensors *file, const char *name, size_t count,
                                         double *out, const char *what, mtl_error *err)
{
    const mtl_safetensor *t = mtl__failed(err) ? NULL : mtl_safetensors_find(file, name);
    double value = 0;
    size_t i;
    int fits = t && t->type == MTL_TYPE_F64 && t->count == count;
    for (i = 0; fits && i < count; i++) {
        memcpy(&value, (const unsigned char *)t->data + i * sizeof value, sizeof value);
        fits = mtl__double_is_finite(value);
    }
    if (fits) memcpy(out, t->data, count * sizeof *out);
    else if (what) mtl__fail(err, MTL_ERROR_TENSOR, name, -1, what, name, count);
    return fits;
}

/* A file's method, number `theirs`, must be this trainer's. */
static MTL__RARE mtl_status mtl__balance_resume_rule(const char *field, const mtl_choice *choices,
                                                     double theirs, int ours, mtl_error *err)
{
    const mtl_choice *other = choices;
    if (mtl__failed(err) || theirs == (double)ours) return mtl__status(err);
    while (other->name && (double)other->value != theirs) other++;
    while (choices->value != ours) choices++;
    return mtl__fail(err, MTL_ERROR_TENSOR, "balance.rule", -1,
                     "the file's trainer had %s %s, and this one has %s: create it with the file's, or go on "
                     "from the weights alone", field, other->name ? other->name : "unknown", choices->name);
}

/* Task weights and what their method keeps, which must be that of this trainer. */
static MTL__RARE mtl_status mtl__balance_resume(mtl_trainer *t, const mtl_safetensors *file, mtl_error *err)
{
    const size_t tasks = t->model->desc.task_count;
    const int there = mtl_safetensors_find(file, "balance.rule") != NULL;
    mtl_arena_mark mark = mtl_arena_save(&t->session.scratch);
    const char *const size = "tensor %s of the file must hold %z doubles";
    double rule[2] = { MTL_BALANCE_STATIC, MTL_SURGERY_NONE }, *weights;
    size_t k;
    if (there) mtl__resume_doubles(file, "balance.rule", 2, rule, size, err);
    mtl__balance_resume_rule("trainer.balance", mtl__choices_MTL_BALANCE, rule[0], t->desc.balance, err);
    mtl__balance_resume_rule("trainer.surgery", mtl__choices_MTL_SURGERY, rule[1], t->desc.surgery, err);
    if (!there || mtl__failed(err)) return mtl__status(err);
    if (t->weighting.kind->state)
        mtl__resume_doubles(file, "balance.state", tasks * t->weighting.kind->state, t->weighting.state, size,
                            err);
    if (t->surgery.of && t->surgery.kind->pairs)
        mtl__resume_doubles(file, "balance.pairs", tasks * tasks, t->surgery.state, size, err);
    weights = (double *)mtl__arena_zero(&t->session.scratch, 2 * tasks, sizeof *weights, "task weights", err);
    if (!weights || !mtl__resume_doubles(file, "balance.weights", 2 * tasks, weights, size, err))
        return mtl__status(err);
    for (k = 0; k < tasks; k++) {
        t->weights[k] = (float)weights[k];
        t->weight_ends[k] = (float)weights[tasks + k];
    }
    mtl_arena_release(&t->session.scratch, mark);
    return MTL_OK;
}

/* What checkpoints alone have: lambda, and how late averages are. In other files these are up to date. */
static MTL__RARE void mtl__resume_further(mtl_trainer *t, const mtl_safetensors *file, mtl_error *err)
{
    mtl__optimizer *o = &t->optimizer;
    const size_t units = mtl__average_total(o), lambdas = mtl__trainer_lambdas(t);
    mtl_arena arena;
    double *values, *from;
    size_t i, k;
    mtl_arena_init(&arena, NULL, 0, NULL);
    values = (double *)mtl__arena_zero(&arena, units + lambdas, sizeof *values, "counts", err);
    if (values && mtl__resume_doubles(file, "optimizer.weights", lambdas, values, NULL, err))
        for (k = 0; k < lambdas; k++)
            t->weights[k] = values[k] > 0 && values[k] < 1e30 ? (float)values[k] : 0;
    for (i = 0; values && i < units; i++) values[i] = (double)o->step;
    if (values && units) (void)mtl__resume_doubles(file, "optimizer.averaged", units, values, NULL, err);
    for (i = 0, from = values; values && units && i < o->set->count; i++)
        for (k = 0; k < mtl__average_units(o->set->tensors[i]); k++, from++)
            o->averaged[i][k] = *from >= 0 && *from < (double)o->step ? (unsigned long long)*from : o->step;
    mtl_arena_destroy(&arena);
}

/* What the moments and the average that were read say about rows: those that never moved have moments of zero
   and an average that is the row itself. */
static MTL__RARE void mtl__optimizer_resumed(mtl__optimizer *o)
{
    size_t i, k;
    for (i = 0; i < o->set->count; i++) {
        const mtl_tensor *t = o->set->tensors[i];
        if (!o->seen[i]) continue;
        for (k = 0; k < t->shape[0]; k++) o->applied[i][k] = o->steps[i];
        memset(o->seen[i], 0, t->shape[0]);
        for (k = 0; k < t->count; k++)
            if ((o->m && o->m[t->offset + k] != 0) || (o->v && o->v[t->offset + k] != 0) ||
                (o->average && o->average[t->offset + k] != t->value[k]))
                o->seen[i][k / t->shape[1]] = 1;
    }
}

MTL_DEF MTL__RARE mtl_status mtl_trainer_resume(mtl_trainer *trainer, const mtl_safetensors *file,
                                                mtl_error *err)
{
    mtl_error own;
    mtl__optimizer *o;
    mtl__moment moments[3];
    const mtl_safetensor *counts;
    const unsigned char *from;
    double value;
    char name[192];
    size_t i, k;
    err = mtl__error_given(err, &own);
    if (!mtl__given(trainer, "trainer", err) || !mtl__given(file, "file", err)) return mtl__status(err);
    o = &trainer->optimizer;
    counts = mtl__resume_counts(trainer, file, err);
    if (!counts || mtl__resume_check(trainer, file, err) || mtl__balance_resume(trainer, file, err))
        return mtl__status(err);
    mtl__moments_of(o, moments);
    for (k = 0; k < 3; k++)
        for (i = 0; moments[k].block && i < o->set->count && !mtl__failed(err); i++) {
            const mtl_tensor *p = o->set->tensors[i];
            mtl__print(name, sizeof name, "optimizer.%s.%s", moments[k].name, p->name);
            mtl__read_tensor(file, name, p->shape[0], p->dims == 2 ? p->shape[1] : 0,
                             moments[k].block + p->offset, err);
        }
    if (mtl__failed(err)) return mtl__status(err);
    from = (const unsigned char *)counts->data;
    for (i = 0; i < o->set->count + 3; i++) {
        memcpy(&value, from + i * sizeof value, sizeof value);
        if (!mtl__double_is_finite(value) || value < 0)
            return mtl__fail(err, MTL_ERROR_NUMBER, "optimizer.counts", (long long)i,
                             "tensor optimizer.counts: element %z is not a count", i);
        if (i < o->set->count) o->steps[i] = (unsigned long long)value;
        else if (i == o->set->count) o->step = (unsigned long long)value;
        else if (i == o->set->count + 1) o->plateau = (float)value;
        else o->lr = (float)value;
    }
    mtl__optimizer_resumed(o);
    mtl__resume_further(trainer, file, err);
    return mtl__status(err);
}

/* ===========================================================================================================
   29 >>fit        the training loop: epochs, early stopping, checkpoints
   ===========================================================================================================
   A run stands between two updates, and what it is to do next depends on a few numbers: the trainer's state,
   the place in the epoch and in each data set's order, the epoch's sums of losses, the best weights so far.
   Dropout and orders are functions of the seed and of counts. A checkpoint is these numbers beside the model,
   so that a run that goes on from one ends with the same bits as one that was never interrupted.
   -------------------------------------------------------------------------------------------------------- */
/* A run of mtl_fit; callbacks know it as a checkpoint. */
struct mtl_checkpoint {
    mtl_trainer *trainer;
    mtl_fit_desc desc;
    mtl__sampler sampler;
    const mtl_batch *train, *valid;
    size_t valid_count, updates;            /* updates of an epoch */
    int score_task;                         /* -1: the mean */
    mtl_predictor *predictor;
    mtl_scores scores;
    mtl_real *best;                         /* copy of the best weights */
    double *loss_sum;                       /* [tasks] over the epoch */
    size_t *loss_count;
    double *task_loss;                      /* [tasks] their means */
    double start;
    mtl_progress progress;
    size_t stale;                           /* epochs since the best */
    size_t epoch, update;                   /* where it stands: the update to come, from 0 in its epoch */
    size_t done, before;                    /* updates since the start, and those before it was resumed */
    mtl_arena arena;                        /* grows: batches */
};
typedef struct mtl_checkpoint mtl__fit;

static int mtl__fit_tell(mtl__fit *f)
{
    return f->desc.progress ? f->desc.progress(f->desc.user, &f->progress) : 0;
}

/* The means of the epoch so far. */
static void mtl__fit_mean_loss(mtl__fit *f)
{
    size_t k;
    f->progress.loss = 0;
    for (k = 0; k < f->trainer->model->desc.task_count; k++) {
        f->task_loss[k] = f->loss_count[k] ? f->loss_sum[k] / (double)f->loss_count[k] : 0;
        f->progress.loss += (double)f->trainer->weights[k] * f->task_loss[k];
    }
}

static void mtl__fit_count_loss(mtl__fit *f, const mtl_step *step)
{
    size_t k;
    for (k = 0; k < step->task_count; k++) {
        if (!step->task_items[k]) continue;
        f->loss_sum[k] += step->task_loss[k];
        f->loss_count[k]++;
    }
    mtl__fit_mean_loss(f);
}

/* What to try after numbers that are not finite, for which task `name`, where it is one, may be to blame. */
static MTL__RARE char *mtl__fit_advice(const mtl__fit *f, const char *name, char *out, size_t size)
{
    const mtl_trainer *t = f->trainer;
    const int task = mtl_model_task(t->model, name);
    char lr[32], more[32], clip[64], own[200] = "";
    mtl_text_from_number((double)t->optimizer.lr, lr);
    mtl_text_from_number((double)t->desc.clip_norm, more);
    mtl__print(clip, sizeof clip, t->desc.clip_norm > 0
               ? "a smaller trainer.clip_norm (now %s)" : "trainer.clip_norm 1", more);
    if (task >= 0 && t->weights[task] > 1)
        mtl__print(own, sizeof own, ", a smaller weight of task %s (now %s)", name,
                   (mtl_text_from_number((double)t->weights[task], more), more));
    else if (task >= 0 && t->model->tasks[task].kind->scaled && !t->model->tasks[task].scaling->set)
        mtl__print(own, sizeof own, ", targets of task %s that are scaled (mtl_model_set_target_scale)",
                   name);
    return mtl__print(out, size, "try a smaller trainer.lr (now %s), %s%s", lr, clip, own);
}

/* Numbers that are not finite: the message says, too, in which epoch and where in it (batch 0: in its
   validation), which weights the model is left with, and what to try. */
static MTL__RARE void mtl__fit_broke(const mtl__fit *f, size_t batch, mtl_error *err)
{
    const mtl_error was = *err;
    char where[48], kept[64], advice[320];
    if (was.code != MTL_ERROR_NUMBER) return;
    mtl__print(where, sizeof where, batch ? "batch %z" : "validation", batch);
    mtl__print(kept, sizeof kept, f->progress.best_epoch ? "the weights of the best epoch (%z) are kept"
                                  : f->valid_count       ? "no epoch was finished"
                                                         : "there is no validation data, so no best epoch",
                                                             f->progress.best_epoch);
    mtl_error_clear(err);
    mtl__fail(err, MTL_ERROR_NUMBER, was.name, was.position, "epoch %z, %s: %s; %s; %s", f->progress.epoch,
              where, was.message, kept, mtl__fit_advice(f, was.name, advice, sizeof advice));
}

/* One update; returns 1 when the callback asks to stop. */
static int mtl__fit_update(mtl__fit *f, size_t update, size_t *tokens, double epoch_start, mtl_error *err)
{
    mtl_progress *p = &f->progress;
    const size_t most = f->sampler.update;
    mtl_batch *batches = (mtl_batch *)mtl__arena_zero(&f->arena, most, sizeof *batches, "batches", err);
    size_t i = update * most, n;
    mtl_step step;
    double now;
    for (n = 0; n < most && i + n < f->sampler.total && !mtl__failed(err); n++)
        batches[n] = mtl__sampler_next(&f->sampler, f->trainer->model, i + n, &f->arena, err);
    if (mtl__failed(err)) return 1;
    if (mtl_train_step(f->trainer, batches, n, &step, err)) {
        mtl__fit_broke(f, update + 1, err);
        return 1;
    }
    mtl__fit_count_loss(f, &step);
    *tokens += step.tokens;
    now = mtl__seconds();
    p->batch = update + 1;
    p->step = &step;
    p->seconds = now - f->start;
    p->tokens_per_second = (double)*tokens / (now - epoch_start + 1e-9);
    p->seconds_left = p->seconds / (double)((p->epoch - 1) * p->batches + p->batch - f->before) *
                      (double)((p->epochs - p->epoch + 1) * p->batches - p->batch);
    n = (size_t)mtl__fit_tell(f);
    p->step = NULL;
    return n != 0;
}

/* Scores the model (its averaged weights, where there are any) and keeps it if it is the best so far. */
static MTL__RARE void mtl__fit_evaluate(mtl__fit *f, mtl_error *err)
{
    mtl_trainer *t = f->trainer;
    mtl__optimizer *o = &t->optimizer;
    double score;
    if (o->average) mtl_trainer_swap_average(t, err);
    if (!mtl__failed(err) && !mtl_evaluate(f->predictor, f->valid, f->valid_count, &f->scores, NULL, err)) {
        score = f->score_task < 0 ? f->scores.score : f->scores.tasks[f->score_task].score;
        f->progress.scores = &f->scores;
        f->stale++;
        if (f->progress.best_epoch == 0 || score > f->progress.best_score) {
            f->progress.best_score = score;
            f->progress.best_epoch = f->progress.epoch;
            f->stale = 0;
            /* all of it, but only when an epoch won */
            memcpy(f->best, t->model->set.block, t->model->set.total * sizeof(mtl_real));
        } else if (t->desc.schedule == MTL_SCHEDULE_PLATEAU &&
                   f->stale % (size_t)t->desc.plateau_patience == 0) {
            o->plateau *= t->desc.schedule_factor;
        }
    }
    if (mtl__failed(err)) mtl__fit_broke(f, 0, err);
    if (t->averaged) mtl_trainer_swap_average(t, NULL);
}

/* Lets the caller save where the run stands. */
static MTL__RARE void mtl__fit_save(mtl__fit *f, mtl_error *err)
{
    if (f->desc.checkpoint && !mtl__failed(err)) f->desc.checkpoint(f->desc.user, f, err);
}

static MTL__RARE void mtl__fit_epoch_begin(mtl__fit *f)
{
    const size_t tasks = f->trainer->model->desc.task_count;
    f->progress.epoch = f->epoch;
    f->progress.epoch_end = 0;
    mtl__sampler_begin(&f->sampler, f->epoch);
    if (f->update) return;                  /* it goes on */
    memset(f->loss_sum, 0, tasks * sizeof *f->loss_sum);
    memset(f->loss_count, 0, tasks * sizeof *f->loss_count);
}

/* The updates of an epoch, or those that are left. Returns 1 when the callback asks to stop. */
static MTL__RARE int mtl__fit_updates(mtl__fit *f, mtl_error *err)
{
    const double start = mtl__seconds();
    const size_t every = (size_t)f->desc.checkpoint_every;
    size_t tokens = 0;
    int stop = 0;
    while (f->update < f->updates && !stop) {
        mtl_arena_mark mark = mtl_arena_save(&f->arena);
        stop = mtl__fit_update(f, f->update, &tokens, start, err);
        mtl__trainer_forget(f->trainer);    /* its activations know the batches' ids */
        mtl_arena_release(&f->arena, mark);
        if (mtl__failed(err)) break;
        f->update++;
        f->done++;
        if (stop || (every && f->done % every == 0)) mtl__fit_save(f, err);
    }
    mtl__parameters_settle(&f->trainer->model->set);
    f->progress.train_seconds += mtl__seconds() - start;
    return stop;
}

/* One epoch. Returns 1 to go on. */
static MTL__RARE int mtl__fit_epoch(mtl__fit *f, mtl_fit_result *result, mtl_error *err)
{
    mtl_progress *p = &f->progress;
    int stop;
    mtl__fit_epoch_begin(f);
    stop = mtl__fit_updates(f, err);
    result->updates = f->done;
    result->last_loss = p->loss;
    if (mtl__failed(err)) return 0;
    if (f->valid_count && (!stop || p->best_epoch == 0)) mtl__fit_evaluate(f, err);
    result->epochs = f->epoch;
    result->stopped = stop;
    p->seconds = mtl__seconds() - f->start;
    p->epoch_end = 1;
    if (stop || mtl__failed(err)) return 0;
    result->stopped = stop = mtl__fit_tell(f);
    p->scores = NULL;
    f->epoch++;
    f->update = 0;
    if (stop) mtl__fit_save(f, err);
    return !stop;
}

/* Whether there is an epoch to come. */
static MTL__RARE int mtl__fit_goes_on(const mtl__fit *f)
{
    return f->epoch <= f->progress.epochs &&
           !(f->desc.patience && f->valid_count && f->stale >= (size_t)f->desc.patience);
}

static MTL__RARE mtl_status mtl__fit_check(const mtl__fit *f, const mtl_batch *train, size_t train_count,
                                 mtl_error *err)
{
    const mtl_model_desc *d = &f->trainer->model->desc;
    size_t k;
    if (mtl__failed(err)) return mtl__status(err);
    if (!train || !train_count)
        return mtl__fail(err, MTL_ERROR_ARGUMENT, "train", -1,
                         "mtl_fit needs one training data set at least");
    for (k = 0; k < d->task_count; k++)
        if (f->trainer->model->tasks[k].kind->target == MTL_TARGET_ORIGIN
            && (train_count < 2 || train_count > (size_t)d->tasks[k].classes))
            return mtl__fail(err, MTL_ERROR_ARGUMENT, d->tasks[k].name, (long long)train_count,
                             "task %s tells data sets apart: mtl_fit was given %z; it needs 2 at least, and "
                             "at most as many as the task has classes (%d)", d->tasks[k].name, train_count,
                             d->tasks[k].classes);
    if (f->desc.score && f->score_task >= 0
        && f->trainer->model->tasks[f->score_task].kind->target == MTL_TARGET_ORIGIN)
        return mtl__fail(err, MTL_ERROR_FIELD, "fit.score", -1, "fit.score: task %s is never scored",
                         f->desc.score);
    if (f->desc.score && f->score_task < 0)
        return mtl__fail(err, MTL_ERROR_FIELD, "fit.score", -1, "fit.score: the model has no task \"%s\"",
                         f->desc.score);
    return MTL_OK;
}

static MTL__RARE mtl_status mtl__fit_init(mtl__fit *f, mtl_trainer *trainer, const mtl_fit_desc *desc,
                                const mtl_batch *train, size_t train_count, mtl_error *err)
{
    mtl_predictor_desc how;
    size_t tasks = trainer->model->desc.task_count;
    f->trainer = trainer;
    f->epoch = 1;
    f->start = mtl__seconds();
    mtl_arena_init(&f->arena, NULL, 0, NULL);
    if (desc) f->desc = *desc;
    f->score_task = f->desc.score ? mtl_model_task(trainer->model, f->desc.score) : -1;
    if (mtl_desc_check(MTL_DESC_FIT, &f->desc, "fit", err) || mtl__fit_check(f, train, train_count, err))
        return mtl__status(err);
    mtl__sampler_init(&f->sampler, train, train_count, trainer->model, &f->desc, &f->arena, err);
    f->loss_sum = (double *)mtl__arena_zero(&f->arena, tasks, sizeof(double), "losses", err);
    f->loss_count = (size_t *)mtl__arena_zero(&f->arena, tasks, sizeof(size_t), "losses", err);
    f->task_loss = (double *)mtl__arena_zero(&f->arena, tasks, sizeof(double), "losses", err);
    f->scores.tasks = (mtl_task_score *)mtl__arena_zero(&f->arena, tasks, sizeof *f->scores.tasks, "scores",
                                                        err);
    f->best = f->valid_count
                  ? (mtl_real *)mtl__arena_zero(&f->arena, trainer->model->set.total, sizeof(mtl_real),
                                                "the best weights", err)
                  : NULL;
    memset(&how, 0, sizeof how);
    how.isa = trainer->desc.isa;
    how.scheduler = trainer->session.scheduler;   /* NULL: one thread, like the trainer */
    f->predictor = mtl_predictor_create(trainer->model, &how, err);
    f->updates = (f->sampler.total + f->sampler.update - 1) / f->sampler.update;
    f->progress.epochs = (size_t)f->desc.epochs;
    f->progress.batches = f->updates;
    f->progress.task_loss = f->task_loss;
    if (!trainer->optimizer.total_steps) trainer->optimizer.total_steps = f->updates * f->progress.epochs;
    if (!trainer->weighting.window) trainer->weighting.window = f->updates;
    return mtl__status(err);
}

/* ---- a run of mtl_fit as further tensors ------------------------------------------------------------------
   All of doubles, beside the trainer's: fit.counts, the numbers of mtl__fit_counts;
   fit.losses [tasks, 2], sum and number of the epoch's losses; fit.train [data sets, 6], sequences, steps,
   batches drawn, rounds begun, place in the last one, the epoch in which it began; fit.valid [data sets, 2],
   sequences and steps. best.NAME, of the parameter's shape: the best weights so far, where there are any.
   fit.settings, where given: the bytes of a text. */
enum { MTL__FIT_COUNTS = 8, MTL__FIT_TRAIN = 6, MTL__FIT_VALID = 2 };

static MTL__RARE void mtl__fit_counts(const mtl__fit *f, double counts[MTL__FIT_COUNTS])
{
    counts[0] = (double)f->trainer->optimizer.step;
    counts[1] = (double)f->trainer->optimizer.total_steps;
    counts[2] = (double)f->epoch;
    counts[3] = (double)f->update;
    counts[4] = (double)f->done;
    counts[5] = (double)f->stale;
    counts[6] = (double)f->progress.best_epoch;
    counts[7] = f->progress.best_score;
}

/* A data set's sequences and steps, by which it is known again. */
static MTL__RARE void mtl__fit_size(const mtl_batch *data, double size[MTL__FIT_VALID])
{
    size_t i, steps = 0;
    for (i = 0; i < data->sequences; i++) steps += (size_t)data->lengths[i];
    size[0] = (double)data->sequences;
    size[1] = (double)steps;
}

static MTL__RARE void mtl__fit_train(const mtl__sampler_set *s, double row[MTL__FIT_TRAIN])
{
    mtl__fit_size(s->set.data, row);
    row[2] = (double)s->drawn;
    row[3] = (double)s->round;
    row[4] = (double)s->next;
    row[5] = (double)s->epoch;
}

static MTL__RARE size_t mtl__fit_entry_count(const mtl__fit *f)
{
    return 4 + (f->trainer->optimizer.average ? 1u : 0u) + (f->valid_count ? 1u : 0u) +
           (f->desc.settings ? 1u : 0u) + (f->progress.best_epoch ? f->trainer->model->set.count : 0);
}

static MTL__RARE void mtl__fit_entries(const void *owner, mtl__tensor_entry *e, mtl_arena *arena,
                                       mtl_error *err)
{
    const mtl__fit *f = (const mtl__fit *)owner;
    const mtl_parameters *set = &f->trainer->model->set;
    const size_t tasks = f->trainer->model->desc.task_count, sets = f->sampler.count, valid = f->valid_count;
    double *counts = (double *)mtl__arena_zero(arena, MTL__FIT_COUNTS + 2 * tasks + MTL__FIT_TRAIN * sets +
                                               MTL__FIT_VALID * valid, sizeof *counts, "counts", err);
    double *losses = counts + MTL__FIT_COUNTS, *train = losses + 2 * tasks,
           *sizes = train + MTL__FIT_TRAIN * sets;
    char name[192];
    size_t i;
    mtl__trainer_entries(f->trainer, e, arena, err);
    if (mtl__failed(err)) return;
    e += mtl__trainer_entry_count(f->trainer);
    e += mtl__trainer_count_entries(f->trainer, e, arena, err);
    mtl__fit_counts(f, counts);
    for (i = 0; i < tasks; i++) losses[2 * i] = f->loss_sum[i], losses[2 * i + 1] = (double)f->loss_count[i];
    for (i = 0; i < sets; i++) mtl__fit_train(&f->sampler.sets[i], train + MTL__FIT_TRAIN * i);
    for (i = 0; i < valid; i++) mtl__fit_size(&f->valid[i], sizes + MTL__FIT_VALID * i);
    mtl__entry_set(e++, "fit.counts", MTL_TYPE_F64, MTL__FIT_COUNTS, 0, counts);
    mtl__entry_set(e++, "fit.losses", MTL_TYPE_F64, tasks, 2, losses);
    mtl__entry_set(e++, "fit.train", MTL_TYPE_F64, sets, MTL__FIT_TRAIN, train);
    if (valid) mtl__entry_set(e++, "fit.valid", MTL_TYPE_F64, valid, MTL__FIT_VALID, sizes);
    if (f->desc.settings)
        mtl__entry_set(e++, "fit.settings", MTL_TYPE_U8, strlen(f->desc.settings), 0, f->desc.settings);
    for (i = 0; f->progress.best_epoch && i < set->count; i++) {
        const char *text = mtl__arena_text(arena, mtl__print(name, sizeof name, "best.%s",
                                                             set->tensors[i]->name), err);
        mtl__entry_of_tensor(e++, text, set->tensors[i], f->best + set->tensors[i]->offset);
    }
}

static MTL__RARE mtl__further mtl__fit_further(const mtl__fit *f)
{
    mtl__further more;
    more.owner = f;
    more.count = f ? mtl__trainer_entry_count(f->trainer) + mtl__fit_entry_count(f) : 0;
    more.entries = mtl__fit_entries;
    return more;
}

MTL_DEF MTL__RARE mtl_status mtl_checkpoint_write(const mtl_checkpoint *at, const mtl_writer *writer,
                                                  mtl_error *err)
{
    mtl_error own;
    const mtl__further more = mtl__fit_further(at);
    return mtl__model_write(at ? at->trainer->model : NULL, &more, writer, mtl__error_given(err, &own));
}

MTL_DEF MTL__RARE mtl_status mtl_checkpoint_save(const mtl_checkpoint *at, const char *path, mtl_error *err)
{
    mtl_error own;
    const mtl__further more = mtl__fit_further(at);
    return mtl__model_save(at ? at->trainer->model : NULL, &more, path, mtl__error_given(err, &own));
}

/* A whole number of a file, put between two limits. */
static MTL__RARE size_t mtl__resume_count(double saved, size_t least, size_t most)
{
    return saved < (double)most ? saved > (double)least ? (size_t)saved : least : most;
}

static MTL__RARE void mtl__fit_read_counts(mtl__fit *f, const mtl_safetensors *file, mtl_error *err)
{
    const size_t most = 0x7fffffff;
    mtl__optimizer *o = &f->trainer->optimizer;
    double c[MTL__FIT_COUNTS];
    if (!mtl__resume_doubles(file, "fit.counts", MTL__FIT_COUNTS, c,
                             "the file is no checkpoint of mtl_fit: it has no tensor %s of %z doubles", err))
        return;
    if (c[0] != (double)o->step) {
        mtl__fail(err, MTL_ERROR_TENSOR, "fit.counts", -1, "the trainer has made %l updates, that of the "
                  "checkpoint %g: before mtl_fit comes mtl_trainer_resume", (long long)o->step, c[0]);
        return;
    }
    if (!f->desc.resume_changed) o->total_steps = mtl__resume_count(c[1], 0, most);
    f->epoch = mtl__resume_count(c[2], 1, most);
    f->update = mtl__resume_count(c[3], 0, f->updates);
    f->done = mtl__resume_count(c[4], 0, most);
    f->before = (f->epoch - 1) * f->updates + f->update;
    f->stale = mtl__resume_count(c[5], 0, most);
    f->progress.best_epoch = f->valid_count ? mtl__resume_count(c[6], 0, most) : 0;
    f->progress.best_score = c[7];
}

/* The sums of the running epoch. */
static MTL__RARE void mtl__fit_read_losses(mtl__fit *f, const mtl_safetensors *file, mtl_error *err)
{
    const size_t tasks = f->trainer->model->desc.task_count;
    double *losses = (double *)mtl__arena_zero(&f->arena, tasks, 2 * sizeof *losses, "losses", err);
    size_t i;
    if (!losses || !mtl__resume_doubles(file, "fit.losses", 2 * tasks, losses,
                                        "the checkpoint is one of other tasks: %s must be %z doubles", err))
        return;
    for (i = 0; i < tasks; i++) {
        f->loss_sum[i] = losses[2 * i];
        f->loss_count[i] = mtl__resume_count(losses[2 * i + 1], 0, 0x7fffffff);
    }
    mtl__fit_mean_loss(f);
}

/* The rows that a checkpoint has for `count` data sets, of which it knows the sizes; NULL on error. */
static MTL__RARE const double *mtl__fit_read_sets(mtl__fit *f, const mtl_safetensors *file, const char *name,
                                        const mtl_batch *data, size_t count, size_t width, mtl_error *err)
{
    const mtl_safetensor *t = mtl_safetensors_find(file, name);
    const size_t saved = t ? t->count / width : 0;
    double *rows = (double *)mtl__arena_zero(&f->arena, count > saved ? count : saved, width * sizeof *rows,
                                             "data sets", err), size[MTL__FIT_VALID];
    size_t i;
    if (saved != count && !f->desc.resume_changed)
        mtl__fail(err, MTL_ERROR_TENSOR, name, (long long)saved,
                  "%s: the checkpoint was made with %z data sets, and %z are given", name, saved, count);
    if (saved && rows)
        mtl__resume_doubles(file, name, width * saved, rows, "tensor %s must be %z doubles", err);
    for (i = 0; i < count && !f->desc.resume_changed && !mtl__failed(err); i++) {
        mtl__fit_size(&data[i], size);
        if (size[0] == rows[width * i] && size[1] == rows[width * i + 1]) continue;
        mtl__fail(err, MTL_ERROR_TENSOR, name, (long long)i, "%s: data set %z has %g sequences of %g steps "
                  "in all, and when the checkpoint was made %g of %g", name, i, size[0], size[1],
                  rows[width * i], rows[width * i + 1]);
    }
    return mtl__failed(err) ? NULL : rows;
}

/* A data set's place: its round is shuffled again. */
static MTL__RARE void mtl__fit_resume_set(mtl__fit *f, size_t i, const double row[MTL__FIT_TRAIN])
{
    mtl__sampler_set *s = &f->sampler.sets[i];
    s->round = mtl__resume_count(row[3], 1, (size_t)1 << 30) - 1;
    mtl__sampler_shuffle(s, &f->desc, i, mtl__resume_count(row[5], 1, f->epoch));
    s->next = mtl__resume_count(row[4], 0, s->batches);
    s->drawn = mtl__resume_count(row[2], 0, 0x7fffffff);
    f->sampler.drawn += s->drawn;
}

/* Puts a new run where the checkpoint's was. */
static MTL__RARE mtl_status mtl__fit_resume(mtl__fit *f, mtl_error *err)
{
    const mtl_safetensors *file = f->desc.resume;
    const mtl_parameters *set = &f->trainer->model->set;
    const double *train;
    char name[192];
    size_t i;
    if (!file) return MTL_OK;
    mtl__fit_read_counts(f, file, err);
    mtl__fit_read_losses(f, file, err);
    train = mtl__fit_read_sets(f, file, "fit.train", f->train, f->sampler.count, MTL__FIT_TRAIN, err);
    (void)mtl__fit_read_sets(f, file, "fit.valid", f->valid, f->valid_count, MTL__FIT_VALID, err);
    for (i = 0; i < f->sampler.count && !mtl__failed(err); i++)
        mtl__fit_resume_set(f, i, train + MTL__FIT_TRAIN * i);
    for (i = 0; f->progress.best_epoch && i < set->count && !mtl__failed(err); i++) {
        const mtl_tensor *t = set->tensors[i];
        mtl__read_tensor(file, mtl__print(name, sizeof name, "best.%s", t->name), t->shape[0],
                         t->dims == 2 ? t->shape[1] : 0, f->best + t->offset, err);
    }
    return mtl__status(err);
}

MTL_DEF MTL__RARE mtl_status mtl_fit(mtl_trainer *trainer, const mtl_batch *train, size_t train_count,
                           const mtl_batch *valid, size_t valid_count, const mtl_fit_desc *desc,
                               mtl_fit_result *result, mtl_error *err)
{
    mtl_error own;
    mtl_fit_result mine;
    mtl__fit f;
    err = mtl__error_given(err, &own);
    if (mtl__failed(err)) return mtl__status(err);
    if (!trainer) return mtl__fail(err, MTL_ERROR_ARGUMENT, "trainer", -1, "trainer is NULL");
    if (!result) result = &mine;
    memset(result, 0, sizeof *result);
    memset(&f, 0, sizeof f);
    f.train = train;
    f.valid = valid;
    f.valid_count = valid ? valid_count : 0;
    if (!mtl__fit_init(&f, trainer, desc, train, train_count, err) && !mtl__fit_resume(&f, err)) {
        result->updates = f.done;
        result->epochs = f.epoch - 1;
        result->last_loss = f.progress.loss;
        mtl__optimizer_wait(&trainer->optimizer, &trainer->session.run, 1);
        while (mtl__fit_goes_on(&f) && mtl__fit_epoch(&f, result, err)) { }
        mtl__optimizer_wait(&trainer->optimizer, &trainer->session.run, 0);
    }
    if (f.best && f.progress.best_epoch) {
        memcpy(trainer->model->set.block, f.best, trainer->model->set.total * sizeof(mtl_real));
        mtl_parameters_prepare(&trainer->model->set, MTL_ISA_AUTO, NULL);
    } else if (trainer->optimizer.average && result->updates) {
        mtl_trainer_swap_average(trainer, NULL);
        trainer->averaged = 0;              /* the average is the result; training may go on from it */
    }
    result->best_epoch = f.progress.best_epoch;
    result->best_score = f.progress.best_score;
    result->seconds = mtl__seconds() - f.start;
    result->train_seconds = f.progress.train_seconds;
    mtl_predictor_destroy(f.predictor);
    mtl_arena_destroy(&f.arena);
    return mtl__status(err);
}

/* ===========================================================================================================
   30 >>check      gradient checker, for users' own layers too
   ===========================================================================================================
   Backward passes are compared with central differences of the loss f at step h, element by element:
       n = (f(x+h) - f(x-h)) / 2h           error of an array = ||a - n|| / (||a|| + ||n||)
   A kink within h of x (of ReLU, max, |x|) makes n meaningless. It shows in the one-sided slopes
       right(s) = (f(x+s) - f(x)) / s       left(s) = (f(x) - f(x-s)) / s
   extrapolated to step 0, R = 2 right(h/2) - right(h) and L likewise: a smooth f has R = L = n up to O(h^2),
   while a kink on either side moves n away from the slope of the other side. So an element whose difference
   |a - n|, more than 1e-8 (|a| + |n|), is explained by |R - n| + |L - n| is left out. A wrong gradient of a
   smooth function is never explained, however wrong it is. Invariant: every element has its old value again
   when the checker returns.
   -------------------------------------------------------------------------------------------------------- */

typedef struct mtl__check {
    double (*loss)(void *user);
    void *user;
    double step, base;                      /* h; f(x) */
    double noise;                           /* a slope smaller than this may be rounding alone */
    mtl_check_result *result;
    mtl_error *err;
} mtl__check;

/* Slopes of f along one element at step h: right and left of its present value, and the central one. */
typedef struct mtl__slopes { double right, left, central; } mtl__slopes;

/* x +- h are rounded to mtl_real, so the steps really taken are used. */
static mtl__slopes mtl__check_slopes(const mtl__check *check, mtl_real *x, double h)
{
    mtl__slopes slopes;
    mtl_real old = *x, up = (mtl_real)((double)old + h), down = (mtl_real)((double)old - h);
    double f_up, f_down, h_up = (double)up - (double)old, h_down = (double)old - (double)down;

    *x = up;
    f_up = check->loss(check->user);
    *x = down;
    f_down = check->loss(check->user);
    *x = old;
    slopes.right = (f_up - check->base) / h_up;
    slopes.left = (check->base - f_down) / h_down;
    slopes.central = (f_up - f_down) / (h_up + h_down);
    return slopes;
}

/* Whether a kink near x explains that the analytic gradient is `difference` away from the central slope. */
static int mtl__check_is_kink(const mtl__check *check, mtl_real *x, mtl__slopes wide, double difference)
{
    mtl__slopes near_x = mtl__check_slopes(check, x, check->step / 2);
    double right = 2 * near_x.right - wide.right, left = 2 * near_x.left - wide.left;
    double spread = fabs(right - wide.central) + fabs(left - wide.central);
    return spread > check->noise && spread > difference / 2;
}

/* Sums over one array. */
typedef struct mtl__check_sums {
    double difference, analytic, numeric;   /* squares of a - n, a and n */
    double worst, worst_analytic, worst_numeric;
    size_t worst_index;
} mtl__check_sums;

static mtl_status mtl__check_element(const mtl__check *check, const mtl_check_array *array, size_t i,
                                     mtl__check_sums *sums)
{
    mtl__slopes slopes = mtl__check_slopes(check, &array->value[i], check->step);
    double a = array->grad ? (double)array->grad[i] : 0, n = slopes.central, difference = fabs(a - n);

    if (!mtl__double_is_finite(a) || !mtl__double_is_finite(n))
        return mtl__fail(check->err, MTL_ERROR_NUMBER, array->name, (long long)i,
                         "the %s of %s[%z] is not a finite number", mtl__double_is_finite(a)
                             ? "loss around the value" : "gradient",
                         array->name ? array->name : "array", i);
    if (difference > check->noise && difference > 1e-8 * (fabs(a) + fabs(n))
        && mtl__check_is_kink(check, &array->value[i], slopes, difference)) {
        check->result->kinks++;
        return MTL_OK;
    }
    check->result->elements++;
    sums->difference += difference * difference;
    sums->analytic += a * a;
    sums->numeric += n * n;
    if (difference >= sums->worst) {
        sums->worst = difference;
        sums->worst_index = i;
        sums->worst_analytic = a;
        sums->worst_numeric = n;
    }
    return MTL_OK;
}

/* Gradients that are zero on both sides, up to rounding, agree. */
static void mtl__check_array_done(mtl_check_result *result, const mtl_check_array *array,
                                  const mtl__check_sums *sums)
{
    double analytic = sqrt(sums->analytic), numeric = sqrt(sums->numeric), error = 0;
    if (analytic > 1e-10 || numeric > 1e-10) error = sqrt(sums->difference) / (analytic + numeric);
    if (result->worst_name && error <= result->worst_error) return;
    result->worst_error = error;
    result->worst_name = array->name ? array->name : "";
    result->worst_index = sums->worst_index;
    result->analytic = sums->worst_analytic;
    result->numeric = sums->worst_numeric;
}

static mtl_status mtl__check_arrays(mtl__check *check, const mtl_check_array *arrays, size_t count)
{
    size_t k, i;
    for (k = 0; k < count; k++) {
        mtl__check_sums sums;
        memset(&sums, 0, sizeof sums);
        if (arrays[k].count && !arrays[k].value)
            return mtl__fail(check->err, MTL_ERROR_ARGUMENT, arrays[k].name, (long long)k,
                             "mtl_check_gradients: arrays[%z].value is NULL", k);
        for (i = 0; i < arrays[k].count; i++)
            if (mtl__check_element(check, &arrays[k], i, &sums) != MTL_OK) return mtl__status(check->err);
        mtl__check_array_done(check->result, &arrays[k], &sums);
    }
    return MTL_OK;
}

MTL_DEF MTL__RARE mtl_status mtl_check_gradients(double (*loss)(void *user), void *user,
                                                 const mtl_check_array *arrays, size_t count, double step,
                                                 mtl_check_result *result, mtl_error *err)
{
    const double epsilon = MTL__REAL_IS_DOUBLE ? 2.2e-16 : 1.2e-7;
    mtl_error own;
    mtl_check_result own_result;
    mtl__check check;

    err = mtl__error_given(err, &own);
    if (!result) result = &own_result;
    memset(result, 0, sizeof *result);
    if (mtl__failed(err)) return mtl__status(err);
    if (!loss || (count && !arrays))
        return mtl__fail(err, MTL_ERROR_ARGUMENT, loss ? "arrays" : "loss", -1,
                         "mtl_check_gradients: %s is NULL", loss ? "arrays" : "loss");
    if (!(step >= 0 && step <= 1))
        return mtl__fail(err, MTL_ERROR_ARGUMENT, "step", -1,
                         "mtl_check_gradients: step is %g, it must be in 0 .. 1", step);
    check.loss = loss;
    check.user = user;
    check.step = step > 0 ? step : 1e-5;
    check.base = loss(user);
    check.noise = 100 * epsilon * (fabs(check.base) + 1e-3) / check.step;
    check.result = result;
    check.err = err;
    if (!mtl__double_is_finite(check.base))
        return mtl__fail(err, MTL_ERROR_NUMBER, "loss", -1,
                         "mtl_check_gradients: the loss is not a finite number");
    return mtl__check_arrays(&check, arrays, count);
}

#endif /* implementation, second part */

/* ===========================================================================================================
   31 >>licence    MIT or public domain, at your choice
   ===========================================================================================================
   MIT: Copyright (c) 2026 the mtl_rnn.h authors. Permission is hereby granted, free of charge, to any person
   obtaining a copy of this software and associated documentation files (the "Software"), to deal in the
   Software without restriction, including without limitation the rights to use, copy, modify, merge, publish,
   distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
   furnished to do so, subject to the following conditions: The above copyright notice and this permission
   notice shall be included in all copies or substantial portions of the Software. THE SOFTWARE IS PROVIDED
   "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF
   MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
   COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT,
   TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN
   THE SOFTWARE.

   Public domain (unlicense.org): This is free and unencumbered software released into the public domain.
   Anyone is free to copy, modify, publish, use, compile, sell, or distribute this software, either in source
   code form or as a compiled binary, for any purpose, commercial or non-commercial, and by any means.
   -------------------------------------------------------------------------------------------------------- */

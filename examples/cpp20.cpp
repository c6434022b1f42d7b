// cpp20.cpp - the header in C++20: descs with designated initialisers, in the order of the header's fields
// (C++ allows no other), objects that are destroyed by themselves.   Run: make cpp
// Or by hand, the implementation compiled as C:
//     echo '#include "mtl_rnn.h"' | cc -O2 -DMTL_RNN_IMPLEMENTATION -I. -c -o mtl_rnn.o -x c -
//     c++ -std=c++20 -O2 -I. -o cpp20 examples/cpp20.cpp mtl_rnn.o -lm -pthread
#include "mtl_rnn.h"

#include <cstdio>
#include <memory>
#include <random>
#include <vector>

struct destroy {
    void operator()(mtl_model *model) const { mtl_model_destroy(model); }
    void operator()(mtl_trainer *trainer) const { mtl_trainer_destroy(trainer); }
    void operator()(mtl_predictor *predictor) const { mtl_predictor_destroy(predictor); }
};
template <class T> using owned = std::unique_ptr<T, destroy>;

// Sequences of digits. Two tasks: is the sum odd (a class of the sequence), what was the digit before (a tag
// of a step)?
struct sequences {
    std::vector<int> lengths, digits, odd, before;
};

static sequences draw(std::mt19937 &random, int count)
{
    sequences made;
    std::uniform_int_distribution<int> length(2, 6), digit(0, 4);
    for (int s = 0; s < count; s++) {
        int sum = 0, last = 0;
        made.lengths.push_back(length(random));
        for (int t = 0; t < made.lengths.back(); t++) {
            made.digits.push_back(digit(random));
            made.before.push_back(last);
            last = made.digits.back();
            sum += last;
        }
        made.odd.push_back(sum % 2);
    }
    return made;
}

int main()
{
    enum { ODD, BEFORE, TASKS };
    const mtl_input_desc input = { .name = "digits", .vocabulary = 5, .width = 16 };
    const mtl_task_desc tasks[TASKS] = {
        { .name = "odd", .kind = MTL_TASK_CLASS, .classes = 2 },
        { .name = "before", .kind = MTL_TASK_CLASS, .level = MTL_LEVEL_STEP, .classes = 5, .weight = 0.5f },
    };
    const mtl_model_desc desc = { .inputs = &input, .input_count = 1, .tasks = tasks, .task_count = TASKS,
                                  .encoder = { .cell = MTL_CELL_GRU, .hidden = 32 } };
    const mtl_trainer_desc how = { .lr = 0.01f, .clip_norm = 5 };
    mtl_error err = {};
    owned<mtl_model> model(mtl_model_create(&desc, &err));
    owned<mtl_trainer> trainer(mtl_trainer_create(model.get(), &how, &err));
    std::mt19937 random(1);
    mtl_step step = {};
    while (err.code == MTL_OK && step.step < 400) {
        const sequences data = draw(random, 32);
        const mtl_input ids = { .ids = data.digits.data() };
        const mtl_target targets[TASKS] = { { .labels = data.odd.data() }, { .labels = data.before.data() } };
        const mtl_batch batch = { .sequences = data.lengths.size(), .lengths = data.lengths.data(),
                                  .inputs = &ids, .targets = targets };
        mtl_train_step(trainer.get(), &batch, 1, &step, &err);
    }

    const sequences test = draw(random, 200);
    const mtl_input ids = { .ids = test.digits.data() };
    const mtl_target targets[TASKS] = { { .labels = test.odd.data() }, { .labels = test.before.data() } };
    const mtl_batch batch = { .sequences = test.lengths.size(), .lengths = test.lengths.data(),
                              .inputs = &ids, .targets = targets };
    owned<mtl_predictor> predictor(mtl_predictor_create(model.get(), nullptr, &err));
    std::vector<mtl_task_score> scores(TASKS);
    mtl_scores all = { .tasks = scores.data() };
    mtl_evaluate(predictor.get(), &batch, 1, &all, nullptr, &err);
    if (err.code) {
        std::fprintf(stderr, "cpp20: %s\n", err.message);
        return 1;
    }
    std::printf("odd %.3f   before %.3f\n", scores[ODD].accuracy, scores[BEFORE].accuracy);
    return scores[BEFORE].accuracy < 0.9;
}

/* Names that a user or a header may have defined before mtl_rnn.h is read: none may stand in it. `make lint`
   compiles the header after this file. What they stand for breaks any use. */
#define near        @           /* windows.h */
#define far         @
#define small       @
#define hyper       @
#define interface   @
#define min(a, b)   @
#define max(a, b)   @
#define ERROR       @
#define IN          @
#define OUT         @
#define OPTIONAL    @
#define CONST       @
#define VOID        @
#define BOOL        @
#define TRUE        @
#define FALSE       @
#define DELETE      @
#define IGNORE      @
#define STRICT      @
#define TEXT(text)  @
#define Bool        @           /* X11 */
#define None        @
#define Status      @
#define True        @
#define False       @
#define Success     @
#define Always      @
#define Above       @
#define Below       @
#define OK          @           /* curses.h */
#define ERR         @
#define lines       @
#define erase       @
#define clear       @
#define move        @
#define I           @           /* the C library */
#define complex     @
#define imaginary   @
#define major       @
#define minor       @
#define unix        @
#define linux       @
#define NONE        @           /* users */
#define INT         @
#define INTS        @
#define FLOAT       @
#define REAL        @
#define FLAG        @
#define CHOICE      @
#define SIZE        @
#define SEED        @
#define ISA         @
#define PRECISION   @
#define CELL        @
#define ACTIVATION  @
#define RESET       @
#define LEVEL       @
#define TASK        @
#define LOSS        @
#define POOL        @
#define OPTIMIZER   @
#define SCHEDULE    @
#define SAMPLER     @
#define INPUT       @
#define COLUMN      @
#define MODEL       @
#define TRAINER     @
#define FIT         @
#define PREDICTOR   @
#define ARGUMENT    @
#define FIELD       @
#define MEMORY      @
#define BUFFER      @
#define LIMIT       @
#define RANGE       @
#define NUMBER      @
#define IO          @
#define FORMAT      @
#define VERSION     @
#define TENSOR      @
#define UNSUPPORTED @
#define STOPPED     @
#define DEFAULT     @
#define COUNT       @
#define X           @

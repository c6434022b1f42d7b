// cpp17.cpp - the header in C++11 to C++17, which have no designated initialisers: descs are zeroed with {}
// and their fields assigned. The implementation is in this file, compiled as C++.   Run: make cpp
// Or by hand: c++ -std=c++17 -O2 -I. -o cpp17 examples/cpp17.cpp -lm -pthread
#define MTL_RNN_IMPLEMENTATION
#include "mtl_rnn.h"

#include <cstdio>
#include <stdexcept>
#include <vector>

// An error of the library as an exception.
static void check(const mtl_error &err)
{
    if (err.code) throw std::runtime_error(err.message);
}

// A model that tells from rows of two numbers whether the first or the second has been larger more often.
class comparer {
public:
    comparer()
    {
        mtl_input_desc input = {};
        mtl_task_desc task = {};
        mtl_model_desc desc = {};
        mtl_error err = {};
        input.name = "pairs";
        input.features = 2;
        task.name = "larger";
        task.classes = 2;
        desc.inputs = &input;
        desc.input_count = 1;
        desc.tasks = &task;
        desc.task_count = 1;
        desc.encoder.hidden = 16;
        model_ = mtl_model_create(&desc, &err);
        check(err);
    }
    ~comparer() { mtl_model_destroy(model_); }
    comparer(const comparer &) = delete;
    comparer &operator=(const comparer &) = delete;

    void train(const mtl_batch &data)
    {
        mtl_trainer_desc how = {};
        mtl_fit_desc fit = {};
        mtl_error err = {};
        how.lr = 0.01f;
        fit.epochs = 60;
        mtl_trainer *trainer = mtl_trainer_create(model_, &how, &err);
        mtl_fit(trainer, &data, 1, nullptr, 0, &fit, nullptr, &err);
        mtl_trainer_destroy(trainer);
        check(err);
    }

    std::vector<int> predict(const mtl_batch &data) const
    {
        mtl_error err = {};
        mtl_prediction answer = {};
        mtl_predictor *predictor = mtl_predictor_create(model_, nullptr, &err);
        std::vector<int> labels;
        if (mtl_predict(predictor, &data, &answer, &err) == MTL_OK)
            labels.assign(answer.labels, answer.labels + answer.items);
        mtl_predictor_destroy(predictor);
        check(err);
        return labels;
    }

private:
    mtl_model *model_ = nullptr;
};

int main()
{
    enum { SEQUENCES = 400, STEPS = 5 };
    std::vector<int> lengths(SEQUENCES, STEPS), labels;
    std::vector<mtl_real> rows;
    unsigned seed = 1;
    for (int s = 0; s < SEQUENCES; s++) {
        int second = 0;
        for (int t = 0; t < STEPS; t++) {
            for (int k = 0; k < 2; k++) {
                seed = seed * 1664525u + 1013904223u;
                rows.push_back(static_cast<mtl_real>(seed >> 8) / 16777216);
            }
            second += rows[rows.size() - 1] > rows[rows.size() - 2];
        }
        labels.push_back(second > STEPS / 2);
    }
    mtl_input input = {};
    mtl_target target = {};
    mtl_batch data = {};
    input.rows = rows.data();
    target.labels = labels.data();
    data.sequences = SEQUENCES;
    data.lengths = lengths.data();
    data.inputs = &input;
    data.targets = &target;
    try {
        comparer model;
        int right = 0;
        model.train(data);
        const std::vector<int> answers = model.predict(data);
        for (std::size_t s = 0; s < labels.size(); s++) right += answers[s] == labels[s];
        std::printf("%d of %d right\n", right, static_cast<int>(SEQUENCES));
        return right < SEQUENCES * 8 / 10;
    } catch (const std::exception &error) {
        std::fprintf(stderr, "cpp17: %s\n", error.what());
        return 1;
    }
}

/* --lm: a language model, beside the tasks of the data or alone. */
#ifndef MTL_LM_H
#define MTL_LM_H

#include "corpus.h"
#include "settings.h"

/* Refuses what --lm and --lm-words cannot mean. */
void check_lm(const settings *given);

/* Refuses --lm where the data have a task of its name. */
void check_lm_tasks(const settings *given, const corpus *all);

/* 1 when --lm asks for a task of this name, which then is none of the data's. */
int is_lm(const settings *given, const char *name);

/* The task that --lm asks for. */
mtl_task_desc make_lm_task(const settings *given, const corpus *all);

/* Puts it behind a desc's tasks, over the desc's first column, which reads the inputs. Returns all tasks, a
   growing array, to which desc points now; NULL where there is nothing to do. */
mtl_task_desc *add_lm_task(const settings *given, const corpus *all, mtl_model_desc *desc);

#endif

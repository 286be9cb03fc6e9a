/* The table of functions that compiled plugins use (fastattn/include/fastattn.h). */
#ifndef FA_CAPI_H
#define FA_CAPI_H
#include "../../fastattn/include/fastattn.h"
#include "../kernels.h"

extern const fastattn_api fa_api;

/* Sets the level whose kernels the table calls, and returns those of a type. */
void fa_api_use(const fa_level *level);
const fa_kernels *fa_api_kernels(int dtype);

int fa_api_attention_forward(const fastattn_attention *call);
int fa_api_attention_backward(const fastattn_attention *call, const fastattn_attention_gradient *gradient);

/* Handlers of XLA (xla.c), and those that they leave to what they do not do themselves. */
typedef void *(*fa_xla_handler)(void *frame);
void fa_xla_use(fa_xla_handler forward, fa_xla_handler backward);
void *fa_xla_forward(void *frame);
void *fa_xla_backward(void *frame);
#endif

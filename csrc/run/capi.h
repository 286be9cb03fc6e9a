/* The table of functions that compiled plugins use (fastattn/include/fastattn.h). */
#ifndef FA_CAPI_H
#define FA_CAPI_H
#include "../../fastattn/include/fastattn.h"
#include "../kernels.h"

extern const fastattn_api fa_api;

/* Sets the level whose kernels the table calls. */
void fa_api_use(const fa_level *level);
#endif

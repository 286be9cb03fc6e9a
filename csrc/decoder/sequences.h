/* Where an entry of a batch of sequences is at a step: its sample, its position, its row. */
#ifndef FA_SEQUENCES_H
#define FA_SEQUENCES_H
#include "../kernels.h"

static inline int64_t entry_sample(const fa_recurrent *a, int64_t i) { return a->order ? a->order[i] : i; }
static inline int64_t entry_length(const fa_recurrent *a, int64_t i) { return a->lengths ? a->lengths[i] : a->T; }
static inline int64_t entry_position(const fa_recurrent *a, int64_t i, int64_t step) {
    return a->reverse ? entry_length(a, i) - 1 - step : step;
}
static inline int64_t entry_row(const fa_recurrent *a, int64_t i, int64_t step) {
    return (a->starts ? a->starts[i] : i * a->T) + entry_position(a, i, step);
}
/* Where y and dy have the entry's position: row of (B T, H). */
static inline int64_t entry_place(const fa_recurrent *a, int64_t i, int64_t step) {
    return entry_sample(a, i) * a->T + entry_position(a, i, step);
}
/* End of the entries of first..last-1 that are still running at a step. */
static inline int64_t entries_at(const fa_recurrent *a, int64_t first, int64_t last, int64_t step) {
    while (last > first && entry_length(a, last - 1) <= step) last--;
    return last;
}
#endif

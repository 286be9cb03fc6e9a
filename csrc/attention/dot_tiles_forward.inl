/* Dot attention of bfloat16 arrays on a matrix unit, forward: all of a task (dot_tiles.inl has formula and steps). */
#ifndef FA_ATTENTION_DOT_TILES_FORWARD_INL
#define FA_ATTENTION_DOT_TILES_FORWARD_INL
#include "dot_tiles.inl"
#include "dot_columns.inl"

/* The next rows, from row r of the task, and the keys start..stop-1 that they read. */
FA_INLINE void dot_take_rows(const dot_state *s, dot_rows *t, int64_t r, fa_row *row, int64_t start, int64_t stop) {
    t->first = r;
    const int64_t most = s->columns ? FA_COLUMNS : FA_TILE_ROWS;
    t->rows = s->rows - r < most ? s->rows - r : most;
    t->two = t->rows > TILE_N;
    t->lo = stop;
    t->hi = start;
    for (int i = 0; i < t->rows; i++, *row = fa_next_row(s->a, *row)) {
        t->head[i] = s->first_head + row->head;
        t->query[i] = row->query;
        const fa_range range = t->range[i] = fa_row_range(s->a, s->b, t->head[i], s->length, row->query);
        if (range.lo >= range.hi) continue;
        t->lo = range.lo < t->lo ? range.lo : t->lo;
        t->hi = range.hi > t->hi ? range.hi : t->hi;
    }
    t->lo = t->lo < start ? start : t->lo;
    t->hi = t->hi > stop ? stop : t->hi;
    t->next = t->lo / FA_TILE_KEYS * FA_TILE_KEYS;
    t->key = dot_from(t, t->next);
    t->column = s->ldv;
    t->part = 0;
}

FA_FUNC void dot_tiles_forward(const fa_attention *a, const fa_plan *plan, int64_t task, void *workspace) {
    dot_state s;
    const int64_t head_task = task / plan->pieces, group = a->H / a->Hk;
    memset(&s, 0, sizeof s);
    dot_layout(&s, a, plan->rows_per_task, workspace);
    s.a = a;
    s.b = head_task / a->Hk;
    s.hk = head_task % a->Hk;
    s.first_head = s.hk * group;
    s.row0 = task % plan->pieces * plan->rows_per_task;
    s.rows = group * a->Tq - s.row0 < plan->rows_per_task ? group * a->Tq - s.row0 : plan->rows_per_task;
    s.length = fa_key_length(a, s.b);
    s.turned = s.rows <= TILE_N;
    _Alignas(64) uint16_t ones[TILE_BYTES / 2];
    for (int i = 0; a->exact && i < TILE_BYTES / 2; i++) ones[i] = 0x3f80;
    s.ones = (const char *)ones;
    s.rows_padded = (s.rows + TILE_N - 1) / TILE_N * TILE_N;
    const int64_t memory = fa_memory_row(a, s.b);
    const uint16_t *key = (const uint16_t *)a->key + row_at(&a->key_strides, memory, s.hk, 0);
    const uint16_t *value = (const uint16_t *)a->value + row_at(&a->value_strides, memory, s.hk, 0);
    s.columns = dot_has_columns(&s);
    dot_pack_queries(&s);
    memset(s.context, 0, (size_t)(s.rows_padded * s.ldv) * sizeof(float));
    if (a->exact) memset(s.rounded, 0, (size_t)(s.rows_padded * TILE_N) * sizeof(float));
    for (int64_t r = 0; r < s.rows_padded; r++) {
        s.base[r] = FA_BASE_NONE;
        s.huge[r] = 0;
        s.sum[r] = vset1(0);
    }
    int64_t key_lo = s.length, key_hi = 0;
    fa_row row = fa_task_row(a, s.row0);
    for (int64_t r = 0; r < s.rows; r++, row = fa_next_row(a, row)) {
        const int64_t head = s.first_head + row.head;
        const fa_range k = fa_row_range(a, s.b, head, s.length, row.query);
        if (k.lo < k.hi) {
            key_lo = k.lo < key_lo ? k.lo : key_lo;
            key_hi = k.hi > key_hi ? k.hi : key_hi;
        }
        float *w = a->weights ? a->weights + ((s.b * a->H + head) * a->Tq + row.query) * a->Tk : NULL;
        for (int64_t j = 0; w && j < a->Tk; j++) w[j] = NEG_INF;
    }
    const int few = s.turned ? (int)s.rows : TILE_N; /* rows of a tile */
    if (s.turned)
        TILES_TURNED_BEGIN(few);
    else
        TILES_BEGIN(few);
    for (int64_t start = key_lo / s.chunk * s.chunk; start < key_hi; start += s.chunk) {
        const int64_t stop = start + s.chunk < key_hi ? start + s.chunk : key_hi;
        dot_pack_keys(&s, key, value, start, stop);
        if (!s.turned) dot_pack_key_tiles(&s);
        row = fa_task_row(a, s.row0);
        dot_rows pair[2];
        int waiting = 0;
        for (int64_t r = 0; r < s.rows; r += s.columns ? FA_COLUMNS : FA_TILE_ROWS) {
            dot_rows *const t = pair + waiting;
            dot_take_rows(&s, t, r, &row, start, stop);
            t->strip = s.strip[waiting];
            t->weights = s.weights[waiting];
            waiting += t->lo < t->hi;
            if (waiting < 2 && (waiting == 0 || r + t->rows < s.rows)) continue;
            dot_rows *const others = waiting == 2 ? pair + 1 : NULL;
            if (s.columns)
                dot_columns_chunk(&s, pair, others, start);
            else
                dot_blocks(&s, pair, others, few, start);
            waiting = 0;
        }
    }
    TILES_END();
    row = fa_task_row(a, s.row0);
    const int in_columns = s.columns && !s.any_far && !a->exact && a->Dv % TILE_K == 0;
    for (int64_t r = 0; r < s.rows; r++, row = fa_next_row(a, row)) {
        if (r % TILE_N == 0 && in_columns)
            dot_columns_finish(&s, r, row);
        else if (r % TILE_N == 0 && s.columns)
            dot_turn_rows(&s, r, 1);
        if (!in_columns) dot_finish(&s, r, s.first_head + row.head, row.query);
    }
}
#endif

/* Recurrent layers forward and back, and embeddings, against plain loops in double: a part of levels.c. */

enum { rB = 7, rT = 3, rD = 5 }; /* one tile of 6 entries, and one more */

static double logistic(double x) { return 1 / (1 + exp(-x)); }
static void *space(int64_t n) { return malloc((size_t)n * item()); }

/* Values of one cell for one sample and step, H elements each: gates as they are applied, and what they are made of. */
typedef struct {
    double *gates, *before, *inner, *memory_before, *memory, *h;
} moment;

typedef struct {
    int cell;
    int64_t H, G;
    double *w_input, *w_hidden, *b_input, *b_hidden;
} layer;

static double product(const layer *l, const double *h, int64_t column) {
    double sum = 0;
    for (int64_t k = 0; k < l->H; k++) sum += h[k] * l->w_hidden[k * l->G * l->H + column];
    return sum;
}

static void step_forward(const layer *l, const double *x, moment *m) {
    const int64_t H = l->H, N = l->G * H;
    double *g = m->gates;
    for (int64_t c = 0; c < N; c++) {
        g[c] = l->b_input[c];
        for (int64_t d = 0; d < rD; d++) g[c] += x[d] * l->w_input[d * N + c];
        if (l->cell == FA_LSTM || c < 2 * H) g[c] += product(l, m->before, c) + (l->b_hidden ? l->b_hidden[c] : 0);
    }
    for (int64_t u = 0; u < 2 * H; u++) g[u] = logistic(g[u]);
    for (int64_t u = 0; u < H; u++) {
        if (l->cell == FA_LSTM) {
            g[2 * H + u] = tanh(g[2 * H + u]), g[3 * H + u] = logistic(g[3 * H + u]);
            m->memory[u] = g[H + u] * m->memory_before[u] + g[u] * g[2 * H + u];
            m->h[u] = g[3 * H + u] * tanh(m->memory[u]);
        } else if (l->cell == FA_GRU_AFTER) {
            m->inner[u] = product(l, m->before, 2 * H + u) + l->b_hidden[2 * H + u];
        } else {
            m->inner[u] = g[u] * m->before[u];
        }
    }
    for (int64_t u = 0; u < H && l->cell != FA_LSTM; u++) {
        double more = g[u] * m->inner[u];
        if (l->cell == FA_GRU_BEFORE) more = product(l, m->inner, 2 * H + u) + l->b_hidden[2 * H + u];
        g[2 * H + u] = tanh(g[2 * H + u] + more);
        m->h[u] = (1 - g[H + u]) * g[2 * H + u] + g[H + u] * m->before[u];
    }
}

/* From dh and dc after the step to those before it; d (G H) and d_inner (H) are the gradients at arguments. */
static void step_backward(const layer *l, const moment *m, double *dh, double *dc, double *d, double *d_inner) {
    const int64_t H = l->H, N = l->G * H;
    const double *g = m->gates;
    double *back = filled(H, 0), *through = filled(H, 0);
    for (int64_t u = 0; u < H; u++) {
        if (l->cell == FA_LSTM) {
            double i = g[u], f = g[H + u], n = g[2 * H + u], o = g[3 * H + u], y = tanh(m->memory[u]);
            dc[u] += dh[u] * o * (1 - y * y);
            d[u] = dc[u] * n * i * (1 - i), d[H + u] = dc[u] * m->memory_before[u] * f * (1 - f);
            d[2 * H + u] = dc[u] * i * (1 - n * n), d[3 * H + u] = dh[u] * y * o * (1 - o);
            dc[u] *= f;
            continue;
        }
        double z = g[H + u], n = g[2 * H + u];
        d[H + u] = dh[u] * (m->before[u] - n) * z * (1 - z);
        d[2 * H + u] = dh[u] * (1 - z) * (1 - n * n);
        d_inner[u] = d[2 * H + u] * g[u];
        back[u] = dh[u] * z;
    }
    for (int64_t u = 0; u < H && l->cell != FA_LSTM; u++) {
        for (int64_t c = 0; c < H; c++)
            through[u] += l->w_hidden[u * N + 2 * H + c] * (l->cell == FA_GRU_AFTER ? d_inner : d + 2 * H)[c];
        double r = g[u], dr = l->cell == FA_GRU_AFTER ? d[2 * H + u] * m->inner[u] : through[u] * m->before[u];
        d[u] = dr * r * (1 - r);
        back[u] += l->cell == FA_GRU_AFTER ? through[u] : through[u] * r;
    }
    for (int64_t u = 0; u < H; u++) {
        for (int64_t c = 0; c < (l->cell == FA_LSTM ? N : 2 * H); c++) back[u] += l->w_hidden[u * N + c] * d[c];
        dh[u] = back[u];
    }
}

static void check_recurrent(int cell, int64_t H) {
    static char name[64];
    static const char *const names[] = {"GRU after", "GRU before", "LSTM"};
    snprintf(name, sizeof name, "%s of %d", names[cell], (int)H);
    case_name = name;
    const int64_t G = cell == FA_LSTM ? 4 : 3, N = G * H, rows = rB * rT, PW = kernels->panel_width;
    const int64_t wide = (H + PW - 1) / PW * PW;
    const double size = 1 / sqrt((double)H);
    layer l = {
        cell, H, G, filled(rD * N, 0.5), filled(H * N, size), filled(N, 0.5), cell == FA_LSTM ? NULL : filled(N, 0.5)};
    double *x = filled(rows * rD, 1), *h = filled(rB * H, 1), *c = filled(rB * H, 1);
    double *dy = filled(rows * H, 1), *dh = filled(rB * H, 1), *dc = filled(rB * H, cell == FA_LSTM);
    double *apart = filled(H * G * wide, 0), *y = filled(rows * H, 0), *d = filled(rows * N, 0);
    double *inner = filled(rows * H, 0), *ones = filled(rows * N, 0);
    for (int64_t i = 0; i < rows * N; i++) ones[i] = 1;
    for (int64_t k = 0; k < H; k++)
        for (int64_t g = 0; g < G; g++)
            memcpy(apart + (k * G + g) * wide, l.w_hidden + k * N + g * H, (size_t)H * sizeof *apart);
    void *w_input = space(kernels->gemm_packed_elements(rD, N));
    void *w_hidden = space(kernels->gemm_packed_elements(H, G * wide));
    void *w_back = space(kernels->gemm_packed_elements(N, H));
    if (fa_gemm_pack(kernels, as_real(l.w_input, rD * N), N, 1, rD, N, w_input, 2)) failures++;
    if (fa_gemm_pack(kernels, as_real(apart, H * G * wide), G * wide, 1, H, G * wide, w_hidden, 2)) failures++;
    if (fa_gemm_pack(kernels, as_real(l.w_hidden, H * N), 1, N, N, H, w_back, 2)) failures++;

    fa_recurrent a = {.B = rB, .T = rT, .H = H, .cell = cell, .w_hidden = w_hidden};
    a.b_input = as_real(l.b_input, N), a.b_hidden = l.b_hidden ? as_real(l.b_hidden, N) : NULL;
    a.gates = space(rows * N), a.aux = space(rows * H), a.before = space(rows * H), a.y = space(rows * H);
    void *first = as_real(h, rB * H), *memory = cell == FA_LSTM ? as_real(c, rB * H) : NULL;
    void *last = space(rB * H), *last_memory = memory ? space(rB * H) : NULL;
    fa_recurrent b = a;
    if (fa_recurrent_forward(kernels, &b, as_real(x, rows * rD), rD, w_input, rows, rD, first, memory, last,
                             last_memory, 2))
        failures++;

    moment *m = calloc((size_t)rows, sizeof *m);
    for (int64_t s = 0; s < rB; s++)
        for (int64_t t = 0; t < rT; t++) {
            moment *now = m + s * rT + t;
            now->before = t ? now[-1].h : h + s * H, now->memory_before = t ? now[-1].memory : c + s * H;
            now->gates = filled(N, 0), now->inner = filled(H, 0), now->memory = filled(H, 0);
            now->h = y + (s * rT + t) * H;
            step_forward(&l, x + (s * rT + t) * rD, now);
        }
    compare("states", a.y, y, ones, rows * H, 6);

    b = a;
    b.w_hidden_transposed = w_back, b.dy = as_real(dy, rows * H), b.memory_first = memory;
    void *d_first = space(rB * H), *d_memory = memory ? space(rB * H) : NULL;
    if (fa_recurrent_backward(kernels, &b, as_real(dh, rB * H), memory ? as_real(dc, rB * H) : NULL, d_first, d_memory,
                              2))
        failures++;
    for (int64_t s = 0; s < rB; s++)
        for (int64_t t = rT - 1; t >= 0; t--) {
            const int64_t row = s * rT + t;
            for (int64_t u = 0; u < H; u++) dh[s * H + u] += dy[row * H + u];
            step_backward(&l, m + row, dh + s * H, dc + s * H, d + row * N, inner + row * H);
        }
    compare("d_h", d_first, dh, ones, rB * H, 32);
    compare("d_gates", a.gates, d, ones, rows * N, 32);
    if (memory) compare("d_c", d_memory, dc, ones, rB * H, 32);
    if (cell == FA_GRU_AFTER) compare("d_inner", a.aux, inner, ones, rows * H, 32);
}

/* Rows of a table by their numbers, or columns of its transpose, and gradients back, one number skipped. */
static void check_embedding(int64_t width) {
    enum { n = 9, size = 4, skip = 3 };
    case_name = "embedding";
    const int64_t ids[n] = {1, 0, 1, 3, 2, 1, 0, 3, 1};
    double *table = filled(size * width, 1), *y = filled(n * width, 0), *dy = filled(n * width, 1);
    double *sums = filled(size * width, 0), *unit = filled(size * width, 0);
    void *rt = as_real(table, size * width), *ry = space(n * width), *rs = as_real(sums, size * width);
    for (int64_t i = 0; i < n; i++)
        for (int64_t w = 0; w < width; w++) {
            y[i * width + w] = table[ids[i] * width + w];
            if (ids[i] == skip) continue;
            sums[ids[i] * width + w] += dy[i * width + w], unit[ids[i] * width + w] += fabs(dy[i * width + w]);
        }
    fa_gather(kernels, rt, 0, ids, ry, n, width, 2);
    compare("rows", ry, y, y, n * width, 0);
    if (fa_scatter(kernels, as_real(dy, n * width), width, ids, n, skip, rs, 0, width, 2)) failures++;
    compare("d_table", rs, sums, unit, size * width, 4);
    double *turned = filled(size * width, 0), *turned_unit = filled(size * width, 0);
    void *turned_sums = as_real(turned, size * width), *columns = space(n * width);
    for (int64_t i = 0; i < size; i++)
        for (int64_t w = 0; w < width; w++) turned[w * size + i] = table[i * width + w];
    fa_gather(kernels, as_real(turned, size * width), size, ids, columns, n, width, 2);
    compare("columns", columns, y, y, n * width, 0);
    for (int64_t i = 0; i < size; i++)
        for (int64_t w = 0; w < width; w++) {
            turned[w * size + i] = sums[i * width + w];
            turned_unit[w * size + i] = unit[i * width + w];
        }
    if (fa_scatter(kernels, as_real(dy, n * width), width, ids, n, skip, turned_sums, size, width, 2)) failures++;
    compare("d_table of columns", turned_sums, turned, turned_unit, size * width, 4);
}

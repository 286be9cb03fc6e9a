/* Every level of this build that the machine has, against plain loops in double: attention forward and backward, dot
 * and additive scores, and the kernels of products, elements, rows, training and recurrent layers. No Python, so that
 * it runs under an emulator: see tests/cross/run. An argument names the level that must be the highest one; the exit
 * status is 1 if a check fails.
 *
 * C is the error over eps * unit, where a unit is the sum with absolute values in place of its terms, times 1 + S for
 * what follows from scores of size S (tests/shared/bounds.py has the full derivation).
 */
#include "run/run.h"
#include "dropout.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures, is_double;
static const fa_kernels *kernels;
static const char *level_name, *case_name;

static uint64_t state = 1;
static double uniform(void) { /* [-1, 1), with few enough bits for float32 */
    state = fa_mix64(state);
    return (double)(state >> 44) / 524288.0 - 1;
}
static double *filled(int64_t n, double size) {
    double *x = calloc((size_t)n + 1, sizeof *x);
    for (int64_t i = 0; size != 0 && i < n; i++) x[i] = size * uniform();
    return x;
}
static size_t item(void) { return is_double ? sizeof(double) : sizeof(float); }
static void *as_real(const double *x, int64_t n) {
    char *p = malloc((size_t)(n + 1) * item());
    for (int64_t i = 0; i < n; i++)
        if (is_double)
            ((double *)p)[i] = x[i];
        else
            ((float *)p)[i] = (float)x[i];
    return p;
}
static double at(const void *p, int64_t i) { return is_double ? ((const double *)p)[i] : ((const float *)p)[i]; }

static void compare(const char *what, const void *result, const double *expected, const double *unit, int64_t n,
                    double gate) {
    double worst = 0, eps = is_double ? DBL_EPSILON : FLT_EPSILON, tiny = is_double ? DBL_MIN : FLT_MIN;
    for (int64_t i = 0; i < n; i++) {
        double x = at(result, i), c = fabs(x - expected[i]) / (eps * unit[i] + tiny);
        if (x == expected[i]) c = 0;
        if (!(c <= worst)) worst = c;
        if (worst != worst) break;
    }
    int wrong = !(worst <= gate);
    printf("%-10s %s %-24s %-12s C = %.3f%s\n", level_name, is_double ? "f64" : "f32", case_name, what, worst,
           wrong ? "   WRONG" : "");
    failures += wrong;
}

typedef struct {
    const char *name;
    int score, activation, causal;
    int64_t B, H, Hk, Tq, Tk, D, Dv, left, right;
    double size, scale, softcap, dropout;
    int lengths, mask, bias, poison, empty_row;
} problem;

static const problem problems[] = {
    {"dot", 0, 0, 0, 2, 4, 2, 7, 83, 13, 9, -1, -1, 1, 0.3, 0, 0, 0, 0, 0, 0, 0},
    {"dot, one row", 0, 0, 0, 1, 1, 1, 1, 200, 64, 64, -1, -1, 1, 0.125, 0, 0, 0, 0, 0, 0, 0},
    {"dot, two chunks", 0, 0, 0, 1, 1, 1, 40, 700, 16, 40, -1, -1, 1, 0.25, 0, 0, 0, 0, 0, 0, 0},
    {"dot, wide value", 0, 0, 0, 1, 1, 1, 2, 70, 8, 300, -1, -1, 1, 0.25, 0, 0, 0, 0, 0, 0, 0},
    {"dot, options", 0, 0, 2, 2, 4, 2, 50, 83, 12, 20, 30, 9, 2, 0.3, 3, 0.25, 1, 1, 1, 1, 1},
    {"tanh", 1, FA_TANH, 0, 2, 2, 1, 7, 83, 13, 9, -1, -1, 1, 1, 0, 0, 1, 0, 0, 0, 0},
    {"tanh, large", 1, FA_TANH, 1, 1, 1, 1, 33, 140, 20, 16, -1, -1, 60, 0.1, 0, 0, 0, 1, 1, 1, 1},
    {"tanh, options", 1, FA_TANH, 2, 2, 2, 2, 9, 70, 70, 33, -1, -1, 3, 1, 2, 0.5, 1, 1, 1, 1, 1},
    {"sigmoid", 1, FA_SIGMOID, 0, 2, 2, 1, 7, 83, 13, 9, -1, -1, 1, 1, 0, 0, 1, 0, 0, 1, 0},
    {"sigmoid, large", 1, FA_SIGMOID, 0, 1, 1, 1, 13, 70, 33, 9, -1, -1, 90, 0.1, 0, 0, 0, 1, 0, 1, 0},
    {"relu", 1, FA_RELU, 0, 2, 2, 1, 7, 83, 13, 9, -1, -1, 1, 1, 0, 0, 1, 1, 0, 1, 1},
    {"l1", FA_SCORE_L1, 0, 0, 2, 4, 2, 7, 83, 13, 9, -1, -1, 1, 0.3, 0, 0, 0, 0, 0, 0, 0},
    {"l1, options", FA_SCORE_L1, 0, 2, 2, 4, 2, 50, 83, 12, 20, 30, 9, 2, 0.3, 3, 0.25, 1, 1, 1, 1, 1},
};

/* Value, slope, and the units of both for an argument x that errs by eps * X. */
static double activate(int activation, double x, double X, double *slope, double *y_unit, double *slope_unit) {
    /* Factored sigmoids do not fall below 1 / cap (attention/scores/additive.inl). */
    const double floor_unit = is_double ? ldexp(1, -250) / DBL_EPSILON : ldexp(1, -30) / FLT_EPSILON;
    double y, f;
    if (activation == FA_RELU) {
        *slope = x > 0;
        *y_unit = fabs(x) + X;
        *slope_unit = 1;
        return x > 0 ? x : 0;
    }
    if (activation == FA_TANH) {
        y = tanh(x), f = 1 - y * y;
        *slope_unit = f + 2 * y * y + 2 * fabs(y) * f * X;
    } else {
        y = 1 / (1 + exp(-x)), f = y * (1 - y);
        *slope_unit = f + y * y + f * X + floor_unit;
    }
    *slope = f;
    *y_unit = fabs(y) + f * X + (activation == FA_SIGMOID ? floor_unit : 0);
    return y;
}

static void check_attention(const problem *p) {
    const int64_t B = p->B, H = p->H, Hk = p->Hk, Tq = p->Tq, Tk = p->Tk, D = p->D, Dv = p->Dv, group = H / Hk;
    const int64_t nq = B * H * Tq * D, nk = B * Hk * Tk * D, nv = B * Hk * Tk * Dv, no = B * H * Tq * Dv;
    const int64_t rows = B * H * Tq, pairs = rows * Tk;
    case_name = p->name;
    double *q = filled(nq, p->size), *k = filled(nk, p->size), *v = filled(nv, 1), *w = filled(D, 1);
    double *bias = filled(H * Tk, 1), *d_out = filled(no, 1);
    uint8_t *mask = malloc((size_t)(Tq * Tk));
    for (int64_t i = 0; i < Tq * Tk; i++) mask[i] = uniform() < 0.6;
    for (int64_t i = 0; p->empty_row && i < Tk; i++) mask[2 * Tk + i] = 0;
    int64_t lengths[2] = {p->lengths ? Tk - 3 : Tk, p->lengths ? Tk / 2 : Tk};
    uint64_t seeds[2] = {5, 77};

    fa_attention_grad g = {0};
    fa_attention *a = &g.f;
    a->B = B, a->H = H, a->Hk = Hk, a->Tq = Tq, a->Tk = Tk, a->D = D, a->Dv = Dv;
    double *poisoned_k = filled(nk, 0), *poisoned_v = filled(nv, 0);
    memcpy(poisoned_k, k, (size_t)nk * sizeof *k);
    memcpy(poisoned_v, v, (size_t)nv * sizeof *v);
    for (int64_t b = 0; p->poison && b < B; b++)
        for (int64_t h = 0; h < Hk; h++)
            for (int64_t j = 0; j < Tk; j++) {
                int visible = j < lengths[b] && j != 40;
                for (int64_t c = 0; !visible && c < D; c++) poisoned_k[((b * Hk + h) * Tk + j) * D + c] = NAN;
                for (int64_t c = 0; !visible && c < Dv; c++) poisoned_v[((b * Hk + h) * Tk + j) * Dv + c] = NAN;
            }
    for (int64_t i = 0; p->mask && i < Tq; i++) mask[i * Tk + 40] = 0;
    if (p->poison && !p->mask)
        for (int64_t i = 0; i < nk / D; i++)
            if (i % Tk == 40) {
                memcpy(poisoned_k + i * D, k + i * D, (size_t)D * sizeof *k);
                memcpy(poisoned_v + i * Dv, v + i * Dv, (size_t)Dv * sizeof *v);
            }
    a->query = as_real(q, nq), a->key = as_real(poisoned_k, nk), a->value = as_real(poisoned_v, nv);
    a->query_strides = (fa_strides3){H * Tq * D, Tq * D, D};
    a->key_strides = (fa_strides3){Hk * Tk * D, Tk * D, D};
    a->value_strides = (fa_strides3){Hk * Tk * Dv, Tk * Dv, Dv};
    a->score = p->score, a->activation = p->activation, a->causal = p->causal;
    a->scale = is_double ? p->scale : (float)p->scale, a->softcap = p->softcap;
    a->score_vector = as_real(w, D);
    if (p->mask) a->mask = mask, a->mask_strides = (fa_strides4){0, 0, Tk, 1};
    if (p->bias) a->bias = as_real(bias, H * Tk), a->bias_strides = (fa_strides4){0, Tk, 0, 1};
    if (p->lengths) a->key_lengths = lengths;
    a->left = p->left, a->right = p->right;
    if (p->dropout > 0) {
        a->seeds = seeds;
        a->drop_below = (uint32_t)(p->dropout * 4294967296.0);
        a->keep_scale = 1 / (1 - p->dropout);
    }
    void *zeros = as_real(filled(no, 0), no);
    a->context = zeros, a->context_strides = (fa_strides3){H * Tq * Dv, Tq * Dv, Dv};
    a->weights = malloc((size_t)pairs * item()), a->lse = malloc((size_t)rows * item());
    a->row_max = malloc((size_t)rows * item()), a->row_sum = malloc((size_t)rows * item());

    /* The same in double, with units; d_x_unit in y[1]. */
    double *out[2], *weights[2], *dq[2], *dk[2], *dv[2], *dw[2], *db[2];
    for (int u = 0; u < 2; u++) {
        out[u] = filled(no, 0), weights[u] = filled(pairs, 0), dq[u] = filled(nq, 0), dk[u] = filled(nk, 0);
        dv[u] = filled(nv, 0), dw[u] = filled(D, 0), db[u] = filled(H * Tk, 0);
    }
    double *score = filled(Tk, 0), *slope = filled(Tk, 0), *slope_unit = filled(Tk, 0), *keep = filled(Tk, 0);
    double *dP = filled(Tk, 0), *dP_unit = filled(Tk, 0);
    for (int64_t row = 0; row < rows; row++) {
        const int64_t b = row / Tq / H, h = row / Tq % H, i = row % Tq, kv = b * Hk + h / group, length = lengths[b];
        const int64_t position = i + (p->causal == FA_BOTTOM_RIGHT ? length - Tq : 0);
        double top = -INFINITY, sum = 0, S = 0, delta = 0, delta_unit = 0;
        for (int64_t j = 0; j < Tk; j++) {
            const double *qi = q + row * D, *kj = k + (kv * Tk + j) * D;
            int visible = j < length && (!p->mask || mask[i * Tk + j]);
            if (p->causal) visible &= j <= position;
            if (p->left >= 0) visible &= j >= position - p->left;
            if (p->right >= 0) visible &= j <= position + p->right;
            double s = 0, size = 0;
            for (int64_t t = 0; t < D; t++) {
                double f, y_unit, f_unit;
                if (p->score == FA_SCORE_DOT)
                    s += qi[t] * kj[t], size += fabs(qi[t] * kj[t]);
                else if (p->score == FA_SCORE_L1)
                    s -= fabs(qi[t] - kj[t]), size += fabs(qi[t]) + fabs(kj[t]);
                else
                    s += w[t] * activate(p->activation, qi[t] + kj[t], fabs(qi[t]) + fabs(kj[t]), &f, &y_unit, &f_unit),
                        size += fabs(w[t]) * y_unit;
            }
            s *= a->scale, size *= fabs(a->scale);
            slope[j] = slope_unit[j] = 1;
            if (p->softcap > 0) {
                double t = tanh(s / p->softcap), f = 1 - t * t;
                slope[j] = f;
                slope_unit[j] = f + 2 * t * t + 2 * fabs(t) * f * size / p->softcap;
                s = p->softcap * t;
            }
            if (p->bias) s += bias[h * Tk + j], size += fabs(bias[h * Tk + j]);
            score[j] = visible ? s : -INFINITY;
            if (visible && size > S) S = size;
            if (score[j] > top) top = score[j];
            keep[j] = 1;
            if (p->dropout > 0)
                keep[j] = fa_key_hash(fa_row_key(seeds[b], h, i), (uint32_t)j) < a->drop_below ? 0 : a->keep_scale;
        }
        for (int64_t j = 0; j < Tk; j++) sum += score[j] > -INFINITY ? exp(score[j] - top) : 0;
        for (int64_t j = 0; j < Tk; j++) {
            double P = score[j] > -INFINITY ? exp(score[j] - top) / sum : 0;
            weights[0][row * Tk + j] = P, weights[1][row * Tk + j] = P * (1 + S);
            dP[j] = dP_unit[j] = 0;
            for (int64_t c = 0; c < Dv; c++) {
                double value = v[(kv * Tk + j) * Dv + c], d = d_out[row * Dv + c];
                out[0][row * Dv + c] += P * keep[j] * value;
                out[1][row * Dv + c] += P * keep[j] * fabs(value) * (1 + S);
                dv[0][(kv * Tk + j) * Dv + c] += P * keep[j] * d;
                dv[1][(kv * Tk + j) * Dv + c] += P * keep[j] * fabs(d) * (1 + S);
                dP[j] += keep[j] * d * value, dP_unit[j] += keep[j] * fabs(d * value);
            }
            delta += P * dP[j], delta_unit += P * dP_unit[j];
        }
        for (int64_t j = 0; j < Tk; j++) {
            double P = weights[0][row * Tk + j], dS = P * (dP[j] - delta);
            double unit = P * (1 + S) * (dP_unit[j] + delta_unit);
            if (P == 0) continue;
            db[0][h * Tk + j] += dS, db[1][h * Tk + j] += unit;
            dS *= slope[j] * a->scale, unit *= slope_unit[j] * fabs(a->scale);
            for (int64_t t = 0; t < D; t++) {
                const int64_t iq = row * D + t, ik = (kv * Tk + j) * D + t;
                double f, y_unit, f_unit;
                if (p->score == FA_SCORE_DOT) {
                    dq[0][iq] += dS * k[ik], dq[1][iq] += unit * fabs(k[ik]);
                    dk[0][ik] += dS * q[iq], dk[1][ik] += unit * fabs(q[iq]);
                    continue;
                }
                if (p->score == FA_SCORE_L1) {
                    const double sign = (q[iq] > k[ik]) - (q[iq] < k[ik]);
                    dq[0][iq] -= dS * sign, dq[1][iq] += unit;
                    dk[0][ik] += dS * sign, dk[1][ik] += unit;
                    continue;
                }
                double y = activate(p->activation, q[iq] + k[ik], fabs(q[iq]) + fabs(k[ik]), &f, &y_unit, &f_unit);
                dq[0][iq] += dS * w[t] * f, dq[1][iq] += unit * fabs(w[t]) * f_unit;
                dk[0][ik] += dS * w[t] * f, dk[1][ik] += unit * fabs(w[t]) * f_unit;
                dw[0][t] += dS * y, dw[1][t] += unit * y_unit;
            }
        }
    }

    if (fa_attention_forward(kernels, a, 3)) failures++;
    compare("context", a->context, out[0], out[1], no, 4);
    compare("weights", a->weights, weights[0], weights[1], pairs, 4);
    void *first = malloc((size_t)no * item());
    memcpy(first, a->context, (size_t)no * item());
    if (fa_attention_forward(kernels, a, 1)) failures++;
    if (memcmp(first, a->context, (size_t)no * item()))
        printf("%s: 1 thread, other bits   WRONG\n", p->name), failures++;

    g.d_context = as_real(d_out, no), g.d_context_strides = a->context_strides;
    g.d_query = malloc((size_t)nq * item()), g.d_key = malloc((size_t)nk * item()),
    g.d_value = malloc((size_t)nv * item());
    if (p->bias) g.d_bias = as_real(filled(H * Tk, 0), H * Tk), g.d_bias_strides = a->bias_strides;
    g.d_score_vector = malloc((size_t)D * item());
    if (fa_attention_backward(kernels, &g, 3)) failures++;
    compare("d_query", g.d_query, dq[0], dq[1], nq, 8);
    compare("d_key", g.d_key, dk[0], dk[1], nk, 8);
    compare("d_value", g.d_value, dv[0], dv[1], nv, 8);
    if (p->bias) compare("d_bias", g.d_bias, db[0], db[1], H * Tk, 8);
    if (p->score == FA_SCORE_ADDITIVE) compare("d_v", g.d_score_vector, dw[0], dw[1], D, 8);
}

static void check_products(int64_t M, int64_t K, int64_t N, int transposed) {
    static char name[64];
    snprintf(name, sizeof name, "product %dx%dx%d%s", (int)M, (int)K, (int)N, transposed ? ", w.T" : "");
    case_name = name;
    double *x = filled(M * K, 1), *w = filled(K * N, 1), *dy = filled(M * N, 1), *y[2], *d[2];
    for (int u = 0; u < 2; u++) y[u] = filled(M * N, 0), d[u] = filled(K * N, 0);
    for (int64_t m = 0; m < M; m++)
        for (int64_t k = 0; k < K; k++)
            for (int64_t n = 0; n < N; n++) {
                double a = x[m * K + k] * w[transposed ? n * K + k : k * N + n], b = x[m * K + k] * dy[m * N + n];
                y[0][m * N + n] += a, y[1][m * N + n] += fabs(a);
                d[0][k * N + n] += b, d[1][k * N + n] += fabs(b);
            }
    void *rx = as_real(x, M * K), *rw = as_real(w, K * N), *rdy = as_real(dy, M * N);
    void *ry = malloc((size_t)(M * N) * item()), *rd = malloc((size_t)(K * N) * item());
    void *packed = malloc((size_t)kernels->gemm_packed_elements(K, N) * item());
    if (fa_gemm_pack(kernels, rw, transposed ? 1 : N, transposed ? K : 1, K, N, packed, 2)) failures++;
    if (fa_gemm(kernels, rx, K, packed, ry, M, K, N, NULL, 0, NULL, 0, 2)) failures++;
    compare("y", ry, y[0], y[1], M * N, 8);
    double *b[2] = {filled(N, 0), filled(N, 0)};
    for (int64_t m = 0; m < M; m++)
        for (int64_t n = 0; n < N; n++) b[0][n] += dy[m * N + n], b[1][n] += fabs(dy[m * N + n]);
    void *rb = malloc((size_t)N * item());
    if (fa_gemm_tn(kernels, rx, K, rdy, N, rd, rb, 0, 0, M, K, N, 2)) failures++;
    compare("d_w", rd, d[0], d[1], K * N, 8);
    compare("d_b", rb, b[0], b[1], N, 8);
}

/* The loss of 5 rows, its gradient, a layer norm of the same rows and a step of Adam. */
static void check_training(int64_t V) {
    enum { rows = 5 };
    static char name[64];
    snprintf(name, sizeof name, "training, rows of %d", (int)V);
    case_name = name;
    const int64_t n = rows * V;
    const double smoothing = 0.1;
    double *x = filled(n, 8), *gain = filled(V, 1), *y = filled(n, 0), *d = filled(n, 0), *unit = filled(n, 0);
    double losses[rows], expected[rows], one[rows];
    int64_t targets[rows];
    void *rx = as_real(x, n), *rgain = as_real(gain, V), *ry = malloc((size_t)n * item());
    void *mean = malloc(rows * item()), *inverse = malloc(rows * item());
    for (int64_t r = 0; r < rows; r++) {
        double sum = 0, apart = 0, middle = 0, squares = 0;
        targets[r] = r * 7 % V;
        for (int64_t v = 0; v < V; v++) sum += exp(x[r * V + v]), apart += x[r * V + v], middle += x[r * V + v];
        middle /= (double)V;
        for (int64_t v = 0; v < V; v++) squares += (x[r * V + v] - middle) * (x[r * V + v] - middle);
        expected[r] = log(sum) - (1 - smoothing) * x[r * V + targets[r]] - smoothing / (double)V * apart;
        one[r] = 100;
        for (int64_t v = 0; v < V; v++) {
            const int64_t i = r * V + v;
            d[i] = exp(x[i]) / sum - smoothing / (double)V - (v == targets[r] ? 1 - smoothing : 0);
            y[i] = (x[i] - middle) / sqrt(squares / (double)V + 1e-5) * gain[v] + gain[v];
            unit[i] = 50;
        }
    }
    fa_layer_norm norm = {.rows = rows, .N = V, .x = rx, .gain = rgain, .offset = rgain, .x_row = V, .epsilon = 1e-5};
    norm.y = ry, norm.mean = mean, norm.inverse = inverse;
    fa_layer_norm_forward(kernels, &norm, 2);
    compare("layer_norm", ry, y, unit, n, 4);
    fa_cross_entropy(kernels, rx, 0, targets, smoothing, 1, losses, rows, V, 2);
    compare("d_logits", rx, d, unit, n, 1);
    void *rl = as_real(losses, rows);
    compare("loss", rl, expected, one, rows, 1);

    double *g = filled(n, 1), *after = filled(n, 0);
    void *rv = as_real(x, n), *rg = as_real(g, n), *m = as_real(y, n), *v = as_real(unit, n);
    for (int64_t i = 0; i < n; i++) {
        const double mi = 0.9 * y[i] + 0.1 * 0.5 * g[i], vi = 0.99 * 50 + 0.01 * 0.25 * g[i] * g[i];
        after[i] = 0.999 * x[i] - 0.2 * mi / (2 * sqrt(vi) + 1e-8);
    }
    fa_adam adam = {rv, rg, m, v, 0.5, 0.9, 0.99, 0.2, 2, 1e-8, 0.999, 1};
    fa_adam_step(kernels, &adam, n, 2);
    compare("adam", rv, after, unit, n, 1);
    double norms[2] = {0, 0};
    for (int64_t i = 0; i < n; i++) norms[0] += at(rv, i) * at(rv, i);
    if (fa_square_sum(kernels, rv, n, &norms[1], 2) || fabs(norms[1] / norms[0] - 1) > 1e-13) failures++;
}

static void check_rows(void) {
    const int64_t n = 4001;
    double *x = filled(n, 20), *y = filled(n, 0), *unit = filled(n, 0);
    void *rx = as_real(x, n), *ry = malloc((size_t)n * item()), *rd = malloc((size_t)n * item());
    case_name = "elementwise";
    for (int f = FA_MAP_EXP; f <= FA_MAP_SIGMOID; f++) {
        for (int64_t i = 0; i < n; i++) {
            y[i] = f == FA_MAP_EXP ? exp(x[i]) : f == FA_MAP_TANH ? tanh(x[i]) : 1 / (1 + exp(-x[i]));
            unit[i] = fabs(y[i]);
        }
        kernels->map_elements(f, rx, ry, n);
        compare(f == FA_MAP_EXP    ? "exp"
                : f == FA_MAP_TANH ? "tanh"
                                   : "sigmoid",
                ry, y, unit, n, f == FA_MAP_EXP ? 2 : 3);
    }
    double sum = 0, along = 0, along_unit = 0, *d = filled(n, 1);
    case_name = "softmax";
    for (int64_t i = 0; i < n; i++) sum += exp(x[i]);
    for (int64_t i = 0; i < n; i++) y[i] = exp(x[i]) / sum, unit[i] = y[i] * 21;
    kernels->softmax_forward(rx, NULL, ry, 1, n);
    compare("y", ry, y, unit, n, 4);
    for (int64_t i = 0; i < n; i++) y[i] = at(ry, i), along += y[i] * d[i], along_unit += y[i] * fabs(d[i]);
    for (int64_t i = 0; i < n; i++) unit[i] = y[i] * (fabs(d[i]) + along_unit), y[i] *= d[i] - along;
    kernels->softmax_backward(ry, as_real(d, n), rd, 1, n);
    compare("d_x", rd, y, unit, n, 8);
}

#include "recurrent.h"

static void check_level(const fa_level *level) {
    level_name = level->name;
    for (is_double = 0; is_double < 2; is_double++) {
        kernels = is_double ? level->f64 : level->f32;
        state = 1;
        for (size_t i = 0; i < sizeof problems / sizeof *problems; i++) check_attention(problems + i);
        check_products(1, 40, 70, 0);
        check_products(13, 33, 130, 1);
        check_products(300, 17, 5, 0);
        check_products(37, 100, 70, 0); /* on the matrix unit, where there is one */
        check_rows();
        check_training(45);
        check_training(64);
        check_training(1003);
        for (int cell = FA_GRU_AFTER; cell <= FA_LSTM; cell++)
            for (int64_t H = 1; H <= 70; H += H < 40 ? 13 : 30) check_recurrent(cell, H);
        check_embedding(1);
        check_embedding(37);
    }
}

int main(int argc, char **argv) {
    const char *highest = "none";
    for (int i = 0; i < fa_levels(); i++) {
        if (!fa_level_supported(i)) continue;
        highest = fa_level_at(i)->name;
        check_level(fa_level_at(i));
    }
    printf("highest level: %s\n", highest);
    if (argc > 1 && strcmp(argv[1], highest)) {
        printf("expected: %s   WRONG\n", argv[1]);
        failures++;
    }
    printf("%d failures\n", failures);
    return failures > 0;
}

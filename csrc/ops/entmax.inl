/* alpha-entmax of rows, and its gradients from the weights (Peters, Niculae, Martins 2019, prop. 2; for alpha Correia,
 * Niculae, Martins 2019, eq. 9, here in the form below, which does not cancel as alpha goes to 1):
 *
 *   s_j   = p_j^(2 - alpha) where p_j > 0, else 0
 *   dz_j  = s_j (dp_j - delta),   delta = sum_k s_k dp_k / sum_k s_k
 *   d_alpha = sum_j dp_j (s_j c - p_j f_j),   c = sum_k p_k f_k / sum_k s_k
 *   f_j = (log(1 + v_j) - v_j / (1 + v_j)) / e^2,   1 + v_j = p_j^e,   e = alpha - 1
 *
 * A pair of weight 0 counts for nothing and its dp is not read.
 */
#ifndef FA_OPS_ENTMAX_INL
#define FA_OPS_ENTMAX_INL
#include "../vec/vec.h"
#include "../attention/normalizers/entmax.inl"

/* f for a weight p: (log(1 + v) - v / (1 + v)) / e^2, as a series where v is small. */
FA_FUNC double entmax_bend(double p, double e) {
    const double size = log(p), v = e == 0 ? 0 : expm1(e * size), u = e == 0 ? size : v / e;
    if (v < -0.05) return (log1p(v) - v / (1 + v)) / (e * e);
    double sum = 0, power = 1;
    for (int n = 2; n <= 14; n++, power *= -v) sum += power * (n - 1) / n;
    return u * u * sum;
}

/* dp[i] of weight i of a row becomes dz[i]; d_alpha, if wanted, is set. */
FA_FUNC void entmax_back(const sparse_row *row, double alpha, double *dp, double *d_alpha) {
    double along = 0, slopes = 0;
    for (int64_t i = 0; i < row->n; i++) {
        const double s = row->p[i] / row->y[i];
        along += s * dp[i];
        slopes += s;
    }
    const double delta = along / slopes;
    if (d_alpha) {
        double bends = 0, of_bends = 0;
        for (int64_t i = 0; i < row->n; i++) {
            const double bend = row->p[i] * entmax_bend(row->p[i], alpha - 1);
            bends += bend;
            of_bends += bend * dp[i];
        }
        *d_alpha = row->n ? bends * delta - of_bends : 0;
    }
    for (int64_t i = 0; i < row->n; i++) dp[i] = row->p[i] / row->y[i] * (dp[i] - delta);
}

FA_FUNC int64_t entmax_workspace(int64_t columns) {
    sparse_row row;
    const int64_t scores = (columns + 63) / 64 * 64 * (int64_t)sizeof(real);
    return sparse_row_layout(&row, columns, (char *)64) - (char *)64 + scores + columns * 8 + 64;
}

FA_FUNC void entmax_forward(const element *x, const uint8_t *mask, element *y, double alpha, int64_t rows,
                            int64_t columns, void *workspace) {
    sparse_row row;
    real *S = (real *)sparse_row_layout(&row, columns, workspace);
    const int64_t end = (columns + VL - 1) / VL * VL;
    for (int64_t r = 0; r < rows; r++) {
        const element *src = x + r * columns;
        const uint8_t *allowed = mask ? mask + r * columns : NULL;
        element *dst = y + r * columns;
        for (int64_t c = 0; c < columns; c++) S[c] = !allowed || allowed[c] ? to_real(src[c]) : NEG_INF;
        for (int64_t c = columns; c < end; c++) S[c] = NEG_INF;
        entmax_row(alpha, S, 0, columns, &row);
        memset(dst, 0, (size_t)columns * sizeof(element));
        for (int64_t i = 0; i < row.n; i++) dst[row.key[i]] = to_element((real)row.p[i]);
    }
}

/* d_alpha: of each row, or NULL. */
FA_FUNC void entmax_backward(const element *y, const element *dy, element *dx, double *d_alpha, double alpha,
                             int64_t rows, int64_t columns, void *workspace) {
    sparse_row row;
    double *dp = (double *)sparse_row_layout(&row, columns, workspace);
    const double e = alpha - 1;
    for (int64_t r = 0; r < rows; r++) {
        const element *p = y + r * columns, *g = dy + r * columns;
        element *d = dx + r * columns;
        int64_t n = 0;
        for (int64_t c = 0; c < columns; c++) {
            const double weight = (double)to_real(p[c]);
            d[c] = to_element(0);
            if (weight == 0) continue;
            row.key[n] = (int32_t)c;
            row.p[n] = weight;
            row.y[n] = e == 1 ? weight : e == 0.5 ? sqrt(weight) : e == 0 ? 1 : pow(weight, e);
            dp[n++] = (double)to_real(g[c]);
        }
        row.n = n;
        entmax_back(&row, alpha, dp, d_alpha ? d_alpha + r : NULL);
        for (int64_t i = 0; i < n; i++) d[row.key[i]] = to_element((real)dp[i]);
    }
}
#endif

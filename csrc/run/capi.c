/* What compiled plugins call: the kernels of the level in use, on the pool. Order of the table: that of the header. */
#include "capi.h"
#include "for.h"
#include "run.h"

static const fa_level *level;

void fa_api_use(const fa_level *chosen) { level = chosen; }

const fa_kernels *fa_api_kernels(int dtype) { return dtype == FASTATTN_FLOAT64 ? level->f64 : level->f32; }

static int api_threads(void) { return fa_threads; }

typedef struct {
    fastattn_task task;
    void *context;
} api_call;

FA_BODY(api_task, api_call, a->task(a->context, first))

static void api_parallel(int64_t tasks, fastattn_task task, void *context) {
    const api_call call = {task, context};
    fa_for(NULL, api_task, &call, .items = tasks, .threads = fa_threads);
}

static void api_map(int dtype, int function, const void *x, void *y, int64_t n) {
    fa_api_kernels(dtype)->map_elements(function, x, y, n);
}

static void api_softmax(int dtype, const void *x, const uint8_t *mask, void *y, int64_t rows, int64_t columns) {
    fa_api_kernels(dtype)->softmax_forward(x, mask, y, rows, columns);
}

static void api_softmax_vjp(int dtype, const void *y, const void *dy, void *dx, int64_t rows, int64_t columns) {
    fa_api_kernels(dtype)->softmax_backward(y, dy, dx, rows, columns);
}

static int64_t api_packed_bytes(int dtype, int64_t K, int64_t N) {
    return fa_api_kernels(dtype)->gemm_packed_elements(K, N) * fa_api_kernels(dtype)->real_bytes;
}

static int api_pack(int dtype, const void *w, int64_t row_stride, int64_t column_stride, int64_t K, int64_t N,
                    void *packed) {
    return fa_gemm_pack(fa_api_kernels(dtype), w, row_stride, column_stride, K, N, packed, fa_threads);
}

static int api_matmul(int dtype, const void *x, int64_t x_row, const void *packed, void *y, int64_t M, int64_t K,
                      int64_t N) {
    return fa_gemm(fa_api_kernels(dtype), x, x_row, packed, y, M, K, N, 0, 0, 0, 0, fa_threads);
}

const fastattn_api fa_api = {
    FASTATTN_ABI_MAJOR,
    FASTATTN_ABI_MINOR,
    sizeof(fastattn_api),
    FASTATTN_VERSION,
    api_threads,
    api_parallel,
    api_map,
    api_softmax,
    api_softmax_vjp,
    api_packed_bytes,
    api_pack,
    api_matmul,
    fa_api_attention_forward,
    fa_api_attention_backward,
};

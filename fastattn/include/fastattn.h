/* The C interface of fastattn for compiled plugins: a table of functions, found when the plugin is imported.
 *
 *   #include <fastattn.h>                        folder: fastattn.get_include()
 *   const fastattn_api *fa = fastattn_import();  once, holding the GIL; NULL: an ImportError is set
 *   fa->map(FASTATTN_FLOAT64, FASTATTN_TANH, x, y, n);
 *
 * No function of the table needs the GIL. Arrays are contiguous where no stride is given, strides count elements, and
 * `dtype` is FASTATTN_FLOAT32 or FASTATTN_FLOAT64. Results have the same bits for any number of threads. As C functions
 * do, they check nothing that is not said to be: sizes, dtypes and pointers are the caller's to get right. Numbers need
 * no alignment but that of their type; outputs do not overlap inputs unless it says so.
 *
 * Versions: within a major version functions are only appended, and none changes. A plugin runs with every fastattn
 * of the same major version and the same or a later minor one, and fastattn_import refuses any other.
 */
#ifndef FASTATTN_PUBLIC_H
#define FASTATTN_PUBLIC_H

#include <stddef.h>
#include <stdint.h>

#define FASTATTN_VERSION "0.1.0" /* of the fastattn that this header belongs to */
#define FASTATTN_ABI_MAJOR 1
#define FASTATTN_ABI_MINOR 1
#define FASTATTN_CAPSULE "fastattn._kernels.core._C_API"

enum fastattn_dtype { FASTATTN_FLOAT32 = 0, FASTATTN_FLOAT64 = 1 };
enum fastattn_function { FASTATTN_EXP = 0, FASTATTN_TANH = 1, FASTATTN_SIGMOID = 2 };

typedef void (*fastattn_task)(void *context, int64_t number);

enum fastattn_status {
    FASTATTN_OK = 0,
    FASTATTN_NO_MEMORY = 1,
    FASTATTN_NOT_FINITE = 2, /* done; a gradient overflowed, or was made of what is not finite */
    FASTATTN_INVALID = 3     /* nothing was done: the structure says what cannot be */
};
enum fastattn_precision { /* of float32, as set_float32_precision has it; the first: as it is set */
                          FASTATTN_AS_SET = 0,
                          FASTATTN_HIGHEST = 1,
                          FASTATTN_HIGH = 2,
                          FASTATTN_MEDIUM = 3
};
enum fastattn_score { FASTATTN_DOT = 0, FASTATTN_ADDITIVE = 1, FASTATTN_L1 = 2 };
enum fastattn_activation { FASTATTN_BY_TANH = 0, FASTATTN_BY_SIGMOID = 1, FASTATTN_BY_RELU = 2 };
enum fastattn_causal { FASTATTN_NOT_CAUSAL = 0, FASTATTN_TOP_LEFT = 1, FASTATTN_BOTTOM_RIGHT = 2 };

/* A call of attention: softmax(scale * score(query, key) + bias) value, of B batch entries and H heads, which Hk key
 * heads divide. What is zero or NULL is not there, so that a call sets what it has. Rows of query, key, value and
 * context are contiguous; strides are of batch entry, head and row, and of column where there are four, 0 where an
 * array has one for all. It must not change between a forward and its backward pass, which reads context, row_max and
 * row_sum as that left them, and keeps nothing else. */
typedef struct fastattn_attention {
    uint64_t struct_size;        /* sizeof(fastattn_attention) */
    int32_t dtype, memory_dtype; /* of key and value: memory_dtype, in this version dtype; of all else: dtype */
    int32_t precision, score, activation, causal;
    int32_t windowed; /* 1: a query reads from `left` keys before its place to `right` after it; -1: any number */
    int32_t unused;   /* 0 */
    int64_t left, right;
    int64_t B, H, Hk, Tq, Tk, D, Dv;
    double scale, softcap;
    const void *query, *key, *value; /* (B, H, Tq, D), (B, Hk, Tk, D), (B, Hk, Tk, Dv) */
    int64_t query_strides[3], key_strides[3], value_strides[3];
    const void *score_vector; /* of an additive score: v, D numbers */
    const uint8_t *mask;      /* 1 = may attend */
    const void *bias;
    int64_t mask_strides[4], bias_strides[4];
    const int64_t *key_lengths; /* B */
    const uint64_t *seeds;      /* B, with dropout */
    double dropout;             /* in [0, 1) */
    void *context;              /* (B, H, Tq, Dv) */
    int64_t context_strides[3];
    void *weights;                 /* contiguous (B, H, Tq, Tk), or NULL */
    void *lse, *row_max, *row_sum; /* contiguous (B, H, Tq), or NULL; a backward pass needs the last two */
} fastattn_attention;

/* Gradients of a call whose context is contiguous. */
typedef struct fastattn_attention_gradient {
    uint64_t struct_size; /* sizeof(fastattn_attention_gradient) */
    const void *d_context;
    int64_t d_context_strides[3];
    const void *d_weights, *d_lse;   /* contiguous, or NULL; the first needs the call's weights */
    void *d_query, *d_key, *d_value; /* written, contiguous: (B, H, Tq, D), (B, Hk, Tk, D), (B, Hk, Tk, Dv) */
    void *d_score_vector;            /* written: D numbers, of an additive score */
    void *d_bias;                    /* added to, so that it is zeros before, or NULL */
    int64_t d_bias_strides[4];
    int32_t d_bias_dtype; /* float64 where pairs share a bias, whose sums are exact so; else dtype */
    int32_t unused;       /* 0 */
} fastattn_attention_gradient;

typedef struct fastattn_api {
    uint32_t abi_major, abi_minor;
    uint64_t struct_size; /* bytes of the table that the installed fastattn has */
    const char *version;  /* of the installed fastattn */

    /* Since 1.0. */

    /* The number of threads that computations use. */
    int (*threads)(void);
    /* Calls task(context, i) for i in 0..tasks-1, each once, on these threads, and returns when all are done. */
    void (*parallel)(int64_t tasks, fastattn_task task, void *context);
    /* y = exp, tanh or the logistic function of x, n elements; y may be x. */
    void (*map)(int dtype, int function, const void *x, void *y, int64_t n);
    /* Softmax of each row; mask, of the same shape, is 1 where a row may attend; NULL: everywhere. A row without any
     * is 0. */
    void (*softmax)(int dtype, const void *x, const uint8_t *mask, void *y, int64_t rows, int64_t columns);
    /* dx from y = softmax(x) and dy. */
    void (*softmax_vjp)(int dtype, const void *y, const void *dy, void *dx, int64_t rows, int64_t columns);
    /* A matrix (K, N) is packed once, into bytes on a 64-byte boundary; y (M, N) = x (M, K) w. 0, or 1: no memory. */
    int64_t (*packed_bytes)(int dtype, int64_t K, int64_t N);
    int (*pack)(int dtype, const void *w, int64_t row_stride, int64_t column_stride, int64_t K, int64_t N,
                void *packed);
    int (*matmul)(int dtype, const void *x, int64_t x_row, const void *packed, void *y, int64_t M, int64_t K,
                  int64_t N);

    /* Since 1.1: a fastattn_status each. No state is kept between the two. */

    int (*attention_forward)(const fastattn_attention *call);
    int (*attention_backward)(const fastattn_attention *call, const fastattn_attention_gradient *gradient);

} fastattn_api;

#ifdef PY_VERSION_HEX

static inline const fastattn_api *fastattn_import(void) {
    const fastattn_api *api = (const fastattn_api *)PyCapsule_Import(FASTATTN_CAPSULE, 0);
    if (api == NULL) {
        PyObject *kind, *value, *trace, *top = NULL;
        PyErr_Fetch(&kind, &value, &trace);
        top = PyImport_ImportModule("fastattn"); /* says itself what is wrong with it */
        if (top != NULL)
            PyErr_Format(PyExc_ImportError,
                         "this plugin needs version %d of the C interface of fastattn, and the installed fastattn has "
                         "none: pip install --upgrade 'fastattn>=%s'",
                         FASTATTN_ABI_MAJOR, FASTATTN_VERSION);
        Py_XDECREF(top);
        Py_XDECREF(kind);
        Py_XDECREF(value);
        Py_XDECREF(trace);
        return NULL;
    }
    if (api->abi_major != FASTATTN_ABI_MAJOR) {
        PyErr_Format(PyExc_ImportError,
                     "this plugin was built against fastattn %s, whose C interface has version %d.%d; fastattn %s is "
                     "installed, which has version %d.%d: install a release of the plugin for it, or build the plugin "
                     "again (pip install --force-reinstall --no-cache-dir --no-binary :all: PLUGIN), or "
                     "pip install 'fastattn==%s'",
                     FASTATTN_VERSION, FASTATTN_ABI_MAJOR, FASTATTN_ABI_MINOR, api->version, (int)api->abi_major,
                     (int)api->abi_minor, FASTATTN_VERSION);
        return NULL;
    }
    if ((int)api->abi_minor < FASTATTN_ABI_MINOR || api->struct_size < sizeof(fastattn_api)) {
        PyErr_Format(PyExc_ImportError,
                     "this plugin needs version %d.%d of the C interface of fastattn; fastattn %s is installed, which "
                     "has version %d.%d: pip install --upgrade 'fastattn>=%s'",
                     FASTATTN_ABI_MAJOR, FASTATTN_ABI_MINOR, api->version, (int)api->abi_major, (int)api->abi_minor,
                     FASTATTN_VERSION);
        return NULL;
    }
    return api;
}

#endif
#endif

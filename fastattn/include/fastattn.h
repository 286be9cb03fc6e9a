/* The C interface of fastattn for compiled plugins: a table of functions, found when the plugin is imported.
 *
 *   #include <fastattn.h>                        folder: fastattn.get_include()
 *   const fastattn_api *fa = fastattn_import();  once, holding the GIL; NULL: an ImportError is set
 *   fa->map(FASTATTN_FLOAT64, FASTATTN_TANH, x, y, n);
 *
 * No function of the table needs the GIL. Arrays are contiguous where no stride is given, strides count elements, and
 * `dtype` is FASTATTN_FLOAT32 or FASTATTN_FLOAT64. Results have the same bits for any number of threads. As C functions
 * do, they check nothing: sizes, dtypes and pointers are the caller's to get right. Numbers need no alignment but that
 * of their type; outputs do not overlap inputs unless it says so.
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
#define FASTATTN_ABI_MINOR 0
#define FASTATTN_CAPSULE "fastattn._kernels.core._C_API"

enum fastattn_dtype { FASTATTN_FLOAT32 = 0, FASTATTN_FLOAT64 = 1 };
enum fastattn_function { FASTATTN_EXP = 0, FASTATTN_TANH = 1, FASTATTN_SIGMOID = 2 };

typedef void (*fastattn_task)(void *context, int64_t number);

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

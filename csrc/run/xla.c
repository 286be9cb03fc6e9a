/* Attention as XLA calls it from a compiled program: on the program's own buffers, without the interpreter.
 *
 * The structures are those of XLA's foreign function interface in C, version 0.3, which newer ones extend. What is not
 * a plain call, and what ends in an error, is left to handlers in Python of the same frame, which say what is wrong.
 *
 * Attributes: scale, left, right, causal, lse, heads_third, mask, key_lengths; without a scale a call is not plain. Of
 * the buffers, those of a forward call are query, key, value, those of mask and key_lengths that there are; context,
 * lse if it is wanted, row_max, row_sum. A backward call takes all of these and the gradients of context and lse, and
 * writes those of query, key and value. They have four axes, (B, T, H, D) with heads_third, else (B, H, T, D).
 */
#include <stdlib.h>
#include <string.h>

#include "capi.h"

enum { XLA_METADATA = 1, XLA_SCALAR = 3, XLA_BOOL = 1, XLA_INT32 = 4, XLA_INT64 = 5, XLA_FLOAT32 = 11, XLA_FLOAT64 };

typedef struct {
    size_t size;
    void *extension;
    int32_t type;
    void *data;
    int64_t rank;
    const int64_t *dims;
} xla_buffer;
typedef struct {
    size_t size;
    void *extension;
    int64_t count;
    const int32_t *types;
    xla_buffer *const *buffers;
} xla_buffers;
typedef struct {
    const char *data;
    size_t length;
} xla_span;
typedef struct {
    int32_t type;
    const void *value;
} xla_scalar;
typedef struct {
    size_t size;
    void *extension;
    int64_t count;
    const int32_t *types;
    const xla_span *const *names;
    const void *const *values;
} xla_attributes;
typedef struct {
    size_t size;
    void *extension;
    int32_t major, minor;
} xla_version;
typedef struct {
    size_t size;
    xla_version version;
} xla_metadata;
typedef struct {
    size_t size;
    int32_t type;
    void *next;
    xla_metadata *metadata;
} xla_extension;
typedef struct {
    size_t size;
    const xla_extension *extension;
    const void *api;
    void *context;
    int32_t stage;
    xla_buffers arguments, results;
    xla_attributes attributes;
} xla_frame;

static fa_xla_handler fallback_forward, fallback_backward;

/* Whether there is an attribute of this name that is a number, which it becomes. */
static int number(const xla_attributes *all, const char *name, double *value) {
    const size_t length = strlen(name);
    for (int64_t i = 0; i < all->count; i++) {
        if (all->names[i]->length != length || memcmp(all->names[i]->data, name, length) != 0) continue;
        const xla_scalar *scalar = all->values[i];
        if (all->types[i] != XLA_SCALAR || (scalar->type != XLA_INT64 && scalar->type != XLA_FLOAT64)) return 0;
        *value = scalar->type == XLA_INT64 ? (double)*(const int64_t *)scalar->value : *(const double *)scalar->value;
        return 1;
    }
    return 0;
}

/* A plain call: its attributes, its buffers in their order, and whose turn it is. */
typedef struct {
    fastattn_attention a;
    int heads_third, lse;
    int64_t next;
    const xla_frame *frame;
} call;

static const xla_buffer *argument(call *c) {
    return c->next < c->frame->arguments.count ? c->frame->arguments.buffers[c->next++] : NULL;
}

/* Sizes and strides of a buffer of four axes, or 0. */
static int rows(const call *c, const xla_buffer *x, int32_t type, int64_t *B, int64_t *H, int64_t *T, int64_t *D,
                int64_t *strides) {
    if (!x || x->rank != 4 || x->type != type) return 0;
    const int64_t *n = x->dims;
    *B = n[0], *H = n[c->heads_third ? 2 : 1], *T = n[c->heads_third ? 1 : 2], *D = n[3];
    strides[0] = *H * *T * *D;
    strides[1] = c->heads_third ? *D : *T * *D;
    strides[2] = c->heads_third ? *H * *D : *D;
    return 1;
}

enum { LENGTHS = 256 }; /* at most, of 32 bits, which are widened */

/* Reads attributes and inputs; 0: not a plain call. */
static int read(call *c, const xla_frame *frame, int64_t *lengths) {
    double scale, left, right, causal, lse, third, mask, key_lengths;
    const xla_attributes *all = &frame->attributes;
    if (!number(all, "scale", &scale) || !number(all, "left", &left) || !number(all, "right", &right) ||
        !number(all, "causal", &causal) || !number(all, "lse", &lse) || !number(all, "heads_third", &third) ||
        !number(all, "mask", &mask) || !number(all, "key_lengths", &key_lengths) || frame->arguments.count < 3)
        return 0;
    memset(c, 0, sizeof *c);
    c->frame = frame;
    c->heads_third = third != 0;
    c->lse = lse != 0;
    fastattn_attention *a = &c->a;
    const xla_buffer *query = argument(c), *key = argument(c), *value = argument(c);
    const int32_t type = query->type;
    int64_t B, Bk, H, T;
    if (type != XLA_FLOAT32 && type != XLA_FLOAT64) return 0;
    if (!rows(c, query, type, &a->B, &a->H, &a->Tq, &a->D, a->query_strides) ||
        !rows(c, key, type, &Bk, &a->Hk, &a->Tk, &B, a->key_strides) || Bk != a->B || B != a->D ||
        !rows(c, value, type, &B, &H, &T, &a->Dv, a->value_strides) || B != a->B || H != a->Hk || T != a->Tk)
        return 0;
    a->struct_size = sizeof *a;
    a->dtype = a->memory_dtype = type == XLA_FLOAT64 ? FASTATTN_FLOAT64 : FASTATTN_FLOAT32;
    a->causal = (int32_t)causal;
    a->windowed = 1;
    a->left = (int64_t)left, a->right = (int64_t)right;
    a->scale = scale;
    a->query = query->data, a->key = key->data, a->value = value->data;
    if (mask != 0) {
        const xla_buffer *x = argument(c);
        const int64_t full[] = {a->B, a->H, a->Tq, a->Tk};
        if (!x || x->rank != 4 || x->type != XLA_BOOL) return 0;
        for (int64_t i = 4, step = 1; i-- > 0; step *= x->dims[i]) {
            if (x->dims[i] != 1 && x->dims[i] != full[i]) return 0;
            a->mask_strides[i] = x->dims[i] == 1 ? 0 : step;
        }
        a->mask = x->data;
    }
    if (key_lengths != 0) {
        const xla_buffer *x = argument(c);
        if (!x || x->rank != 1 || x->dims[0] != a->B || (x->type != XLA_INT32 && x->type != XLA_INT64)) return 0;
        if (x->type == XLA_INT32 && a->B > LENGTHS) return 0;
        for (int64_t b = 0; x->type == XLA_INT32 && b < a->B; b++) lengths[b] = ((const int32_t *)x->data)[b];
        a->key_lengths = x->type == XLA_INT32 ? lengths : x->data;
    }
    return 1;
}

static int plain_forward(const xla_frame *frame) {
    call c;
    int64_t lengths[LENGTHS], B, H, T, D;
    if (!read(&c, frame, lengths)) return 0;
    const xla_buffers *out = &frame->results;
    if (out->count != 3 + c.lse ||
        !rows(&c, out->buffers[0], out->buffers[0]->type, &B, &H, &T, &D, c.a.context_strides))
        return 0;
    c.a.context = out->buffers[0]->data;
    c.a.lse = c.lse ? out->buffers[1]->data : NULL;
    c.a.row_max = out->buffers[1 + c.lse]->data, c.a.row_sum = out->buffers[2 + c.lse]->data;
    return fa_api_attention_forward(&c.a) == FASTATTN_OK;
}

/* Heads and positions of rows of some bytes in the other order. */
static void turn(const char *from, char *to, int64_t B, int64_t M, int64_t N, int64_t bytes) {
    for (int64_t b = 0; b < B; b++)
        for (int64_t m = 0; m < M; m++)
            for (int64_t n = 0; n < N; n++)
                memcpy(to + ((b * N + n) * M + m) * bytes, from + ((b * M + m) * N + n) * bytes, (size_t)bytes);
}

static int plain_backward(const xla_frame *frame) {
    call c;
    int64_t lengths[LENGTHS], B, H, T, D;
    if (!read(&c, frame, lengths) || frame->results.count != 3) return 0;
    fastattn_attention *a = &c.a;
    const int64_t item = a->dtype == FASTATTN_FLOAT64 ? 8 : 4, key_rows = a->B * a->Hk * a->Tk;
    const xla_buffer *context = argument(&c);
    if (c.lse) argument(&c);
    const xla_buffer *row_max = argument(&c), *row_sum = argument(&c), *d_context = argument(&c);
    const xla_buffer *d_lse = c.lse ? argument(&c) : NULL;
    fastattn_attention_gradient d = {.struct_size = sizeof d};
    if (!d_context || (c.lse && !d_lse)) return 0;
    if (!rows(&c, d_context, context->type, &B, &H, &T, &D, d.d_context_strides)) return 0;
    a->row_max = row_max->data, a->row_sum = row_sum->data;
    a->context_strides[0] = a->H * a->Tq * a->Dv, a->context_strides[1] = a->Tq * a->Dv, a->context_strides[2] = a->Dv;
    d.d_context = d_context->data;
    d.d_lse = d_lse ? d_lse->data : NULL;
    xla_buffer *const *out = frame->results.buffers;
    const int64_t sizes[] = {a->B * a->H * a->Tq * a->Dv * item, a->B * a->H * a->Tq * a->D * item,
                             key_rows * a->D * item, key_rows * a->Dv * item};
    char *space = NULL;
    /* The kernels read and write these with heads before positions, which is the same where there is one of either. */
    const int turned = c.heads_third && !(a->H == 1 || (a->Tq == 1 && a->Tk == 1));
    if (turned) {
        space = malloc((size_t)(sizes[0] + sizes[1] + sizes[2] + sizes[3] + 1));
        if (!space) return 0;
        turn(context->data, space, a->B, a->Tq, a->H, a->Dv * item);
    }
    char *const at = space ? space + sizes[0] : NULL;
    a->context = space ? space : context->data;
    d.d_query = space ? at : out[0]->data;
    d.d_key = space ? at + sizes[1] : out[1]->data;
    d.d_value = space ? at + sizes[1] + sizes[2] : out[2]->data;
    const int done = fa_api_attention_backward(a, &d) == FASTATTN_OK;
    if (done && space) {
        turn(d.d_query, out[0]->data, a->B, a->H, a->Tq, a->D * item);
        turn(d.d_key, out[1]->data, a->B, a->Hk, a->Tk, a->D * item);
        turn(d.d_value, out[2]->data, a->B, a->Hk, a->Tk, a->Dv * item);
    }
    free(space);
    return done;
}

/* What is asked when a handler is registered: the version of the interface that it knows. */
static int asked(xla_frame *frame) {
    if (!frame->extension || frame->extension->type != XLA_METADATA) return 0;
    frame->extension->metadata->version.major = 0;
    frame->extension->metadata->version.minor = 3;
    return 1;
}

void *fa_xla_forward(void *frame) { return asked(frame) || plain_forward(frame) ? NULL : fallback_forward(frame); }
void *fa_xla_backward(void *frame) { return asked(frame) || plain_backward(frame) ? NULL : fallback_backward(frame); }

void fa_xla_use(fa_xla_handler forward, fa_xla_handler backward) {
    fallback_forward = forward;
    fallback_backward = backward;
}

# Recurrent layers.

cdef class Recurrent:
    """The weights of a recurrent layer: cell 0 GRU, reset after; 1 GRU, reset before; 2 LSTM, whose b_hidden is None.

    w_input is packed (D, G H), w_hidden is packed (H, H) for each gate; biases are read in place, at every call.
    Every array is contiguous; sequences is (lengths, starts, order), each (B,) int64, or None.
    """
    cdef fa_recurrent a
    cdef const fa_kernels *kernels
    cdef const void *w_input
    cdef tuple keep
    cdef bint is_double

    def __init__(self, int cell, int64_t hidden, cnp.ndarray w_input, cnp.ndarray w_hidden, cnp.ndarray b_input,
                 b_hidden):
        memset(&self.a, 0, sizeof(fa_recurrent))
        self.keep = (w_input, w_hidden, b_input, b_hidden)
        self.kernels = _kernels(b_input)
        self.is_double = cnp.PyArray_TYPE(b_input) == cnp.NPY_FLOAT64
        self.w_input = cnp.PyArray_DATA(w_input)
        self.a.cell = cell
        self.a.H = hidden
        self.a.w_hidden = cnp.PyArray_DATA(w_hidden)
        self.a.b_input = cnp.PyArray_DATA(b_input)
        self.a.b_hidden = _data(b_hidden)

    cdef void _sequences(self, fa_recurrent *a, int64_t batch, int64_t steps, bint reverse, sequences):
        a.B = batch
        a.T = steps
        a.reverse = reverse
        if sequences is not None:
            a.lengths = <const int64_t *>_data(sequences[0])
            a.starts = <const int64_t *>_data(sequences[1])
            a.order = <const int64_t *>_data(sequences[2])

    def forward(self, cnp.ndarray x, int64_t batch, int64_t steps, bint reverse, sequences, h_first, c_first,
                cnp.ndarray h_last, c_last, cnp.ndarray gates, aux, before, y, inside=None):
        """All steps over x (rows, D): last states, y (B, T, H) unless None; gates (rows, G H) is scratch, or is kept
        with aux and before (rows, H) for backward. x may be None if gates hold its products. inside (B, H) is what
        else the reset gate of a GRU with reset after acts on."""
        cdef fa_recurrent a = self.a
        cdef int64_t rows = 0, D = 0, x_row = 0
        cdef const void *p_x = NULL
        cdef const void *p_h = _data(h_first)
        cdef const void *p_c = _data(c_first)
        cdef void *p_h_last = cnp.PyArray_DATA(h_last)
        cdef void *p_c_last = _data(c_last)
        cdef int status
        if x is not None:
            rows = cnp.PyArray_DIM(x, 0)
            D = cnp.PyArray_DIM(x, 1)
            x_row = cnp.PyArray_STRIDE(x, 0) // cnp.PyArray_ITEMSIZE(x)
            p_x = cnp.PyArray_DATA(x)
        self._sequences(&a, batch, steps, reverse, sequences)
        a.gates = cnp.PyArray_DATA(gates)
        a.aux = _data(aux)
        a.before = _data(before)
        a.y = _data(y)
        a.inside = _data(inside)
        with nogil:
            status = fa_recurrent_forward(self.kernels, &a, p_x, x_row, self.w_input, rows, D, p_h, p_c, p_h_last,
                                          p_c_last, self.is_double, n_threads)
        if status:
            raise MemoryError("fastattn: no memory for the workspace of a recurrent layer")

    def backward(self, cnp.ndarray w_hidden_transposed, int64_t batch, int64_t steps, bint reverse, sequences, dy,
                 dh_last, dc_last, cnp.ndarray dh_first, dc_first, cnp.ndarray gates, cnp.ndarray aux,
                 cnp.ndarray before, c_first):
        """All steps back: gradients of the first states, and in gates, and in aux of a GRU with reset after, those at
        the gates' arguments. dy, dh_last and dc_last may be None: zeros."""
        cdef fa_recurrent a = self.a
        cdef const void *p_h_last = _data(dh_last)
        cdef const void *p_c_last = _data(dc_last)
        cdef void *p_h = cnp.PyArray_DATA(dh_first)
        cdef void *p_c = _data(dc_first)
        cdef int status
        self._sequences(&a, batch, steps, reverse, sequences)
        a.w_hidden_transposed = cnp.PyArray_DATA(w_hidden_transposed)
        a.gates = cnp.PyArray_DATA(gates)
        a.aux = cnp.PyArray_DATA(aux)
        a.before = cnp.PyArray_DATA(before)
        a.dy = _data(dy)
        a.memory_first = _data(c_first)
        with nogil:
            status = fa_recurrent_backward(self.kernels, &a, p_h_last, p_c_last, p_h, p_c, self.is_double, n_threads)
        if status:
            raise MemoryError("fastattn: no memory for the workspace of a recurrent layer's gradients")

# Recurrent layers.

_NOTHING = (None, None)

cdef class Recurrent:
    """The weights of a recurrent layer: cell 0 GRU, reset after; 1 GRU, reset before; 2 LSTM, whose b_hidden is None.

    w_input is packed (D, G H), w_hidden is packed (H, H) for each gate; biases are read in place, at every call.
    Every array is contiguous. States are pairs (h, c) of arrays (B, H), or None for zeros; of a GRU, c is None.
    """
    cdef fa_recurrent a
    cdef const fa_kernels *kernels
    cdef const void *w_input
    cdef int64_t w_input_elements, gates
    cdef tuple keep
    cdef int kind

    def __cinit__(self, int cell, int64_t hidden, cnp.ndarray w_input, cnp.ndarray w_hidden, cnp.ndarray b_input,
                  b_hidden):
        cdef int kind
        self.kind = kind = floats(b_input, "b_input")
        self.kernels = _kernels(b_input)
        between("cell", None, cell, 0, 2)
        between("hidden", None, hidden, 0, FA_WIDEST)
        self.gates = (4 if cell == 2 else 3) * hidden
        self.w_input_elements = _elements(w_input) if cnp.PyArray_Check(w_input) else 0
        flat(w_input, "w_input", kind, self.w_input_elements)
        flat(w_hidden, "w_hidden", kind, fa_size_mul(4 if cell == 2 else 3, _packed(self.kernels, hidden, hidden)))
        flat(b_input, "b_input", kind, self.gates)
        if cell != 2:
            flat(b_hidden, "b_hidden", kind, self.gates)
        memset(&self.a, 0, sizeof(fa_recurrent))
        self.keep = (w_input, w_hidden, b_input, b_hidden)
        self.w_input = cnp.PyArray_DATA(w_input)
        self.a.cell = cell
        self.a.H = hidden
        self.a.w_hidden = cnp.PyArray_DATA(w_hidden)
        self.a.b_input = cnp.PyArray_DATA(b_input)
        self.a.b_hidden = _data(b_hidden)

    cdef int64_t sequences(self, fa_recurrent *a, Sequences sequences, bint reverse, cnp.ndarray gates) except -1:
        """Describe a batch, whose gates (rows, G H) say how many rows there are."""
        cdef int64_t rows, i
        cdef int64_t batch = sequences.batch, steps = sequences.steps
        a.B = batch
        a.T = steps
        a.reverse = reverse
        if sequences.lengths is None:
            rows = fa_size_mul(batch, steps)
            flat(gates, "gates", self.kind, fa_size_mul(rows, self.gates), FA_WRITE)
            return rows
        rows = 0 if self.gates == 0 or not cnp.PyArray_Check(gates) else _elements(gates) // self.gates
        flat(gates, "gates", self.kind, rows * self.gates, FA_WRITE)
        within(sequences.lengths, "lengths", batch, 0, steps)
        within(sequences.starts, "starts", batch, 0, INT64_MAX)
        within(sequences.order, "order", batch, 0, batch - 1)
        a.lengths = <const int64_t *>_data(sequences.lengths)
        a.starts = <const int64_t *>_data(sequences.starts)
        a.order = <const int64_t *>_data(sequences.order)
        for i in range(batch):
            if a.lengths[i]:
                between("starts", None, a.starts[i], 0, rows - a.lengths[i])
            if i:
                between("lengths", None, a.lengths[i], 0, a.lengths[i - 1])  # longest first
        return rows

    cdef int each(self, object array, str name, int64_t count, bint wanted, int flags) except -1:
        """Check an array of H units for each of `count`, or that it is None unless it is wanted."""
        if wanted or array is not None:
            flat(array, name, self.kind, fa_size_mul(count, self.a.H), flags)
        return 0

    def forward(self, x, Sequences sequences not None, bint reverse, tuple first, tuple last, cnp.ndarray gates,
                tuple kept=None, y=None, inside=None):
        """All steps over x (rows, D): last states, y (B, T, H) unless None; gates (rows, G H) is scratch, or is with
        kept, (aux, before), each (rows, H), what backward needs. x may be None if gates hold its products. inside
        (B, H) is what else the reset gate of a GRU with reset after acts on."""
        cdef fa_recurrent a = self.a
        cdef fa_sizes s
        cdef int64_t D = 0, x_row = 0, rows = self.sequences(&a, sequences, reverse, gates), batch = a.B
        h_first, c_first = first or _NOTHING
        h_last, c_last = last
        aux, before = kept or _NOTHING
        cdef const void *p_x = NULL
        cdef int status
        self.each(h_first, "h_first", batch, False, FA_READ)
        self.each(c_first, "c_first", batch, False, FA_READ)
        self.each(h_last, "h_last", batch, True, FA_WRITE)
        self.each(c_last, "c_last", batch, False, FA_WRITE)
        self.each(aux, "aux", rows, before is not None, FA_WRITE)
        self.each(before, "before", rows, aux is not None, FA_WRITE)
        self.each(y, "y", fa_size_mul(batch, a.T), False, FA_WRITE)
        self.each(inside, "inside", batch, False, FA_READ)
        if x is not None:
            tensor(x, "x", self.kind, 2, 2, &s)
            same("x", "rows", s.T, rows)
            D = s.D
            same("w_input", "elements", self.w_input_elements, _packed(self.kernels, D, self.gates))
            x_row = cnp.PyArray_STRIDE(x, 0) // cnp.PyArray_ITEMSIZE(x)
            p_x = cnp.PyArray_DATA(x)
        cdef const void *p_h = _data(h_first)
        cdef const void *p_c = _data(c_first)
        cdef void *p_h_last = _data(h_last)
        cdef void *p_c_last = _data(c_last)
        a.gates = cnp.PyArray_DATA(gates)
        a.aux = _data(aux)
        a.before = _data(before)
        a.y = _data(y)
        a.inside = _data(inside)
        with nogil:
            status = fa_recurrent_forward(self.kernels, &a, p_x, x_row, self.w_input, rows, D, p_h, p_c, p_h_last,
                                          p_c_last, n_threads)
        if status:
            raise MemoryError("fastattn: no memory for the workspace of a recurrent layer")

    def backward(self, cnp.ndarray w_hidden_transposed, Sequences sequences not None, bint reverse, dy, tuple d_last,
                 tuple d_first, cnp.ndarray gates, tuple kept, c_first):
        """All backward steps: gradients of the first states, and in gates, and in aux of a GRU with reset after, those
        at the gates' arguments. dy, d_last and either of it may be None: zeros."""
        cdef fa_recurrent a = self.a
        cdef int64_t rows = self.sequences(&a, sequences, reverse, gates), batch = a.B
        dh_last, dc_last = d_last or _NOTHING
        dh_first, dc_first = d_first
        aux, before = kept
        cdef int status
        flat(w_hidden_transposed, "w_hidden_transposed", self.kind, _packed(self.kernels, self.gates, a.H))
        self.each(dy, "dy", fa_size_mul(batch, a.T), False, FA_READ)
        self.each(dh_last, "dh_last", batch, False, FA_READ)
        self.each(dc_last, "dc_last", batch, False, FA_READ)
        self.each(dh_first, "dh_first", batch, True, FA_WRITE)
        self.each(dc_first, "dc_first", batch, False, FA_WRITE)
        self.each(aux, "aux", rows, True, FA_WRITE)
        self.each(before, "before", rows, True, FA_READ)
        self.each(c_first, "c_first", batch, a.cell == 2, FA_READ)
        cdef const void *p_h_last = _data(dh_last)
        cdef const void *p_c_last = _data(dc_last)
        cdef void *p_h = _data(dh_first)
        cdef void *p_c = _data(dc_first)
        a.w_hidden_transposed = cnp.PyArray_DATA(w_hidden_transposed)
        a.gates = cnp.PyArray_DATA(gates)
        a.aux = _data(aux)
        a.before = _data(before)
        a.dy = _data(dy)
        a.memory_first = _data(c_first)
        with nogil:
            status = fa_recurrent_backward(self.kernels, &a, p_h_last, p_c_last, p_h, p_c, n_threads)
        if status:
            raise MemoryError("fastattn: no memory for the workspace of a recurrent layer's gradients")

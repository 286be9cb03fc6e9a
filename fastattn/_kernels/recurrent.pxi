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
        memset(&self.a, 0, sizeof(fa_recurrent))
        self.w_input = flat(w_input, "w_input", kind, self.w_input_elements)
        self.a.w_hidden = flat(w_hidden, "w_hidden", kind,
                               fa_size_mul(4 if cell == 2 else 3, _packed(self.kernels, hidden, hidden)))
        self.a.b_input = flat(b_input, "b_input", kind, self.gates)
        if cell != 2:
            self.a.b_hidden = flat(b_hidden, "b_hidden", kind, self.gates)
        self.keep = (w_input, w_hidden, b_input, b_hidden)
        self.a.cell = cell
        self.a.H = hidden

    cdef int64_t sequences(self, fa_recurrent *a, Sequences sequences, bint reverse, cnp.ndarray gates) except -1:
        """Describe a batch, whose gates (rows, G H) say how many rows there are."""
        cdef int64_t rows, i
        cdef int64_t batch = sequences.batch, steps = sequences.steps
        a.B = batch
        a.T = steps
        a.reverse = reverse
        if sequences.lengths is None:
            rows = fa_size_mul(batch, steps)
            a.gates = flat(gates, "gates", self.kind, fa_size_mul(rows, self.gates), FA_WRITE)
            return rows
        rows = 0 if self.gates == 0 or not cnp.PyArray_Check(gates) else _elements(gates) // self.gates
        a.gates = flat(gates, "gates", self.kind, rows * self.gates, FA_WRITE)
        a.lengths = within(sequences.lengths, "lengths", batch, 0, steps)
        a.starts = within(sequences.starts, "starts", batch, 0, INT64_MAX)
        a.order = within(sequences.order, "order", batch, 0, batch - 1)
        for i in range(batch):
            if a.lengths[i]:
                between("starts", None, a.starts[i], 0, rows - a.lengths[i])
            if i:
                between("lengths", None, a.lengths[i], 0, a.lengths[i - 1])  # longest first
        return rows

    cdef void *each(self, object array, str name, int64_t count, bint wanted, int flags) except? NULL:
        """Check an array of H units for each of `count`, or that it is None unless it is wanted."""
        if array is None and not wanted:
            return NULL
        return flat(array, name, self.kind, fa_size_mul(count, self.a.H), flags)

    cdef int on_unit(self, fa_recurrent *a, tuple parts, bint back) except -1:
        """Describe the matrices in parts, which a matrix unit multiplies; None: none does."""
        cdef int64_t K, H = self.a.H
        cdef int i, count = 0
        if parts is None:
            return 0
        cdef list depths = [H] * (4 if a.cell == 2 else 3)
        if back:
            depths = [2 * H, H] if a.cell == 1 else [self.gates]
        same("parts", "arrays", len(parts), len(depths))
        for i in range(len(depths)):
            K = depths[i]
            if i == 0:
                count = _count(self.kernels, parts[i], K, H)
            a.parts_of_hidden[i] = <const uint16_t *>flat(parts[i], "parts", cnp.NPY_UINT8,
                                                          fa_gemm_parts_bytes(self.kernels, count, K, H))
        a.parts = count
        return 0

    def forward(self, x, Sequences sequences not None, bint reverse, tuple first, tuple last, cnp.ndarray gates,
                tuple kept=None, y=None, inside=None, tuple parts=None):
        """All steps over x (rows, D): last states, y (B, T, H) unless None; gates (rows, G H) is scratch, or is with
        kept, (aux, before), each (rows, H), what backward needs. x may be None if gates hold its products. inside
        (B, H) is what else the reset gate of a GRU with reset after acts on. parts: w_hidden's (H, H) for each gate
        (`gemm_split`), whose products are made on the matrix unit then."""
        cdef fa_recurrent a = self.a
        cdef fa_sizes s
        cdef int64_t D = 0, x_row = 0, rows = self.sequences(&a, sequences, reverse, gates), batch = a.B
        h_first, c_first = first or _NOTHING
        h_last, c_last = last
        aux, before = kept or _NOTHING
        cdef const void *p_x = NULL
        cdef int status
        cdef const void *p_h = self.each(h_first, "h_first", batch, False, FA_READ)
        cdef const void *p_c = self.each(c_first, "c_first", batch, False, FA_READ)
        cdef void *p_h_last = self.each(h_last, "h_last", batch, True, FA_WRITE)
        cdef void *p_c_last = self.each(c_last, "c_last", batch, False, FA_WRITE)
        a.aux = self.each(aux, "aux", rows, before is not None, FA_WRITE)
        a.before = self.each(before, "before", rows, aux is not None, FA_WRITE)
        a.y = self.each(y, "y", fa_size_mul(batch, a.T), False, FA_WRITE)
        a.inside = self.each(inside, "inside", batch, False, FA_READ)
        self.on_unit(&a, parts, False)
        if x is not None:
            p_x = tensor(x, "x", self.kind, 2, 2, &s)
            same("x", "rows", s.T, rows)
            D = s.D
            same("w_input", "elements", self.w_input_elements, _packed(self.kernels, D, self.gates))
            x_row = cnp.PyArray_STRIDE(x, 0) // cnp.PyArray_ITEMSIZE(x)
        with nogil:
            status = fa_recurrent_forward(self.kernels, &a, p_x, x_row, self.w_input, rows, D, p_h, p_c, p_h_last,
                                          p_c_last, n_threads)
        finished(status, "a recurrent layer")

    def backward(self, cnp.ndarray w_hidden_transposed, Sequences sequences not None, bint reverse, dy, tuple d_last,
                 tuple d_first, cnp.ndarray gates, tuple kept, c_first, tuple parts=None):
        """All backward steps: gradients of the first states, and in gates, and in aux of a GRU with reset after, those
        at the gates' arguments. dy, d_last and either of it may be None: zeros. parts: those of w_hidden transposed,
        of a GRU with reset before that of r and z and that of n."""
        cdef fa_recurrent a = self.a
        cdef int64_t rows = self.sequences(&a, sequences, reverse, gates), batch = a.B
        dh_last, dc_last = d_last or _NOTHING
        dh_first, dc_first = d_first
        aux, before = kept
        cdef int status
        a.w_hidden_transposed = flat(w_hidden_transposed, "w_hidden_transposed", self.kind,
                                     _packed(self.kernels, self.gates, a.H))
        a.dy = self.each(dy, "dy", fa_size_mul(batch, a.T), False, FA_READ)
        cdef const void *p_h_last = self.each(dh_last, "dh_last", batch, False, FA_READ)
        cdef const void *p_c_last = self.each(dc_last, "dc_last", batch, False, FA_READ)
        cdef void *p_h = self.each(dh_first, "dh_first", batch, True, FA_WRITE)
        cdef void *p_c = self.each(dc_first, "dc_first", batch, False, FA_WRITE)
        a.aux = self.each(aux, "aux", rows, True, FA_WRITE)
        a.before = self.each(before, "before", rows, True, FA_READ)
        a.memory_first = self.each(c_first, "c_first", batch, a.cell == 2, FA_READ)
        self.on_unit(&a, parts, True)
        with nogil:
            status = fa_recurrent_backward(self.kernels, &a, p_h_last, p_c_last, p_h, p_c, n_threads)
        finished(status, "a recurrent layer's gradients")

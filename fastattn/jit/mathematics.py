"""Functions of one or two numbers in the compiled code, as text, for both widths of real numbers.

They have no branch, and are made of sums, products, quotients, fused multiply-adds that are written out, and bits, none
of which a compiler contracts or reorders: a number has the same result in every lane of every vector, in the rest of a
loop, and on every machine. That is why none of them is the C library's or the compiler's. Errors are at most 4 units in
the last place, with two exceptions that the docstring of `fastattn.jit` names: sines of large numbers, and powers.
"""

import math
from fractions import Fraction

__all__ = ["helpers"]

# To more digits than a float64 has: a product with an exponent of 10 bits must not lose any.
_LN2 = Fraction("0.69314718055994530941723212145817656807550013436")
_HALF_PI = Fraction("1.57079632679489661923132169163975144209858469969")

_EXP = """
@inlined
def exp{bits}(x):
    # x = n log 2 + r, |r| <= log(2) / 2; 2**n in two factors, so that subnormal results come out.
    y = select(x > {real}({most}), {real}({most}), select(x < {real}({least}), {real}({least}), x))
    shifted = fma(y, {real}({log2e}), {real}({shift}))
    n = shifted - {real}({shift})
    r = fma(n, {real}(-{ln2_low}), fma(n, {real}(-{ln2_high}), y))
    p = {real}(1.0) + fma(r * r, {exp_terms}, r)
    k = integer{bits}(integer_bits{bits}(shifted) - integer{bits}({shift_bits}))
    half = integer{bits}(k >> 1)
    p = p * real_bits{bits}(integer{bits}((half + {bias}) << {mantissa}))
    return p * real_bits{bits}(integer{bits}((k - half + {bias}) << {mantissa}))
"""
_WITHIN = """
@inlined
def within{bits}(x):
    # A power of two that takes a divisor to where its reciprocal is a normal number.
    a = abs(x)
    large = select(a > {real}({divisor_most}), {real}({divisor_down}), {real}(1.0))
    return select(a < {real}(1.0 / {divisor_most}), {real}({divisor_most}), large)
"""
_EXPM1 = """
@inlined
def small_expm1_{bits}(x):
    # |x| <= 40: 2**n (exp(r) - 1) + (2**n - 1), without cancellation near 0.
    shifted = fma(x, {real}({log2e}), {real}({shift}))
    n = shifted - {real}({shift})
    r = fma(n, {real}(-{ln2_low}), fma(n, {real}(-{ln2_high}), x))
    p = fma(r * r, {exp_terms}, r)
    k = integer{bits}(integer_bits{bits}(shifted) - integer{bits}({shift_bits}))
    scale = real_bits{bits}(integer{bits}((k + {bias}) << {mantissa}))
    return fma(scale, p, scale - {real}(1.0))


@inlined
def expm1{bits}(x):
    y = select(x > {real}(40.0), {real}(40.0), select(x < {real}(-40.0), {real}(-40.0), x))
    return select(x > {real}(40.0), exp{bits}(x), small_expm1_{bits}(y))
"""
_TANH = """
@inlined
def tanh{bits}(x):
    # (2**n exp(2 r) - 1) / (2**n exp(2 r) + 1), x = n log(2) / 2 + r; it is 1 from {tanh_most} on. NaN is neither below
    # nor above, and stays. What log(2) in one step is off by matters less the larger n is. The longest chain sets the
    # time: so terms are taken in pairs, and the divisor does not wait for the dividend.
    y = select(x < {real}(-{tanh_most}), {real}(-{tanh_most}), x)
    c = select(y > {real}({tanh_most}), {real}({tanh_most}), y)
    shifted = fma(c, {real}({two_log2e}), {real}({shift}))
    r = fma(shifted - {real}({shift}), {real}(-{half_ln2}), c)
    z = r * r
    p = fma(z, {tanh_terms}, r + r)
    k = integer{bits}(integer_bits{bits}(shifted) - integer{bits}({shift_bits}))
    scale = real_bits{bits}(integer{bits}((k + {bias}) << {mantissa}))
    return fma(scale, p, scale - {real}(1.0)) / fma(scale, p, scale + {real}(1.0))
"""
_LOG = """
@inlined
def log{bits}(x):
    # x = 2**n (1 + f), 1 + f from sqrt(1/2) to sqrt(2), and with s = f / (2 + f) and half = f**2 / 2
    # log(1 + f) = f - (half - s (half + 2 (s**2 / 3 + s**4 / 5 + ...))).
    small = x < {real}({smallest})
    whole = integer_bits{bits}(select(small, x * {real}({raised}), x))
    n = integer{bits}((whole - integer{bits}({root_bits})) >> {mantissa})
    f = real_bits{bits}(integer{bits}(whole - (n << {mantissa}))) - {real}(1.0)
    s = f / ({real}(2.0) + f)
    z = s * s
    half = {real}(0.5) * f * f
    p = fma(z, {log_terms}, half)
    m = {real}(n) - select(small, {real}({raised_by}), {real}(0.0))
    found = fma(m, {real}({ln2_high}), f - (half - fma(s, p, m * {real}({ln2_low}))))
    other = select(x == {real}(0.0), {real}(-np.inf), select(x > {real}(0.0), x, {real}(np.nan)))
    return select((x > {real}(0.0)) & (x < {real}(np.inf)), found, other)
"""
_LOG1P = """
@inlined
def log1p{bits}(x):
    # What 1 + x rounds away is made up for by the slope.
    u = {real}(1.0) + x
    found = log{bits}(u) * (x / (u - {real}(1.0)))
    return select((u == {real}(1.0)) | (x == {real}(np.inf)), x, found)
"""
_SINES = """
@inlined
def sine_of_quarter(x, quarters):
    # The sine of x + quarters * pi / 2, in float64 whatever the arrays are.
    shifted = fma(x, real64({two_over_pi}), real64({shift64}))
    n = shifted - real64({shift64})
    r = fma(n, real64(-{half_pi_high}), x)
    r = fma(n, real64(-{half_pi_low}), fma(n, real64(-{half_pi_middle}), r))
    z = r * r
    sine = fma(r * z, {sine_terms}, r)
    cosine = fma(z, {cosine_terms}, real64(1.0))
    k = integer_bits64(shifted) + quarters
    found = select((k & 1) == 1, cosine, sine)
    return select((k & 2) == 2, -found, found)
"""
_SIN = """
@inlined
def sin{bits}(x):
    return {real}(sine_of_quarter(real64(x), 0))
"""
_COS = """
@inlined
def cos{bits}(x):
    return {real}(sine_of_quarter(real64(x), 1))
"""
_ARCTAN = """
@inlined
def arctan{bits}(x):
    # |x| from 0 to 1 by arctan(1 / x) = pi / 2 - arctan(x), then to tan(pi / 8) by that of (u - 1) / (u + 1) + pi / 4.
    a = abs(x)
    u = select(a > {real}(1.0), {real}(1.0) / a, a)
    far = u > {real}({tan_eighth})
    v = select(far, (u - {real}(1.0)) / (u + {real}(1.0)), u)
    z = v * v
    p = fma(v * z, {arctan_terms}, v) + select(far, {real}({quarter_pi}), {real}(0.0))
    t = select(a > {real}(1.0), {real}({half_pi}) - p, p)
    return select(x == x, select(x < {real}(0.0), -t, t), x)
"""
_ERF = """
@inlined
def erf{bits}(x):
    # Up to 1 its series; then 1 - exp(-x**2) g, g by a polynomial in (x - {erf_middle}) / (x + {erf_middle}); it is 1
    # from {erf_most} on.
    a = abs(x)
    z = a * a
    near = a * {erf_terms}
    b = select(a < {real}(1.0), {real}(1.0), select(a < {real}({erf_most}), a, {real}({erf_most})))
    t = (b - {real}({erf_middle})) / (b + {real}({erf_middle}))
    far = {real}(1.0) - exp{bits}(-(b * b)) * {erf_tail}
    found = select(a < {real}(1.0), near, far)
    return select(x == x, select(x < {real}(0.0), -found, found), x)
"""
_POWER = """
@inlined
def power64(x, y):
    p = exp64(y * log64(abs(x)))
    odd = floor(y * real64(0.5)) * real64(2.0) != y
    p = select(x < real64(0.0), select(floor(y) == y, select(odd, -p, p), real64(np.nan)), p)
    return select((y == real64(0.0)) | (x == real64(1.0)), real64(1.0), p)
"""
_POWER32 = """
@inlined
def power32(x, y):
    return real32(power64(real64(x), real64(y)))
"""
_FLOOR_DIVIDE = """
@inlined
def floor_divide(x, y):
    # {how}
    return {quotient}
"""

# exp(x**2) (1 - erf(x)) from 1 to the second number, by powers of (x - first) / (x + first): interpolated at the nodes
# of Chebyshev in 60 digits; times exp(-x**2) they are off by 3e-9 and 2e-17.
_ERF_TAILS = {
    32: (2.0, 4.0, [
        0.25539567631050575, -0.4271859897684867, 0.2416582015255602, -0.07896830612793473, 0.0037323717589395444,
        0.006811140131085635, -0.0008379754387023135,
    ]),
    64: (2.5, 6.0, [
        0.2108063640611436, -0.37173673394897294, 0.2517131932174488, -0.12503305237891782, 0.03992253907546523,
        -0.003993701160123029, -0.0026423659518134547, 0.0008759152875774328, 0.0002283799633257643,
        -0.00012887483134837842, -3.4175718896856294e-05, 1.8596747731144528e-05, 7.499735050763299e-06,
        -2.2328516517555215e-06, -1.587633893127344e-06,
    ]),
}  # fmt: skip

_TEXTS = {
    "within": _WITHIN,
    "exp": _EXP,
    "small_expm1_": _EXPM1,
    "expm1": "",
    "tanh": _TANH,
    "log": _LOG,
    "log1p": _LOG1P,
    "sine": _SINES,
    "sin": _SIN,
    "cos": _COS,
    "arctan": _ARCTAN,
    "erf": _ERF,
    "power": _POWER,
}
_NEEDS = {
    "expm1": ("exp", "small_expm1_"),
    "log1p": ("log",),
    "small_expm1_": ("exp",),
    "erf": ("exp",),
    "sin": ("sine",),
    "cos": ("sine",),
    "power": ("exp", "log"),
}


def _horner(variable: str, terms: list[float], real: str) -> str:
    """Return a polynomial as text, the constant term first."""
    text = f"{real}({terms[-1]!r})"
    for term in reversed(terms[:-1]):
        text = f"fma({variable}, {text}, {real}({term!r}))"
    return text


def _pairs(variable: str, square: str, terms: list[float], real: str) -> str:
    """Return a polynomial of an even number of terms as one in the square of the variable, whose terms are pairs."""
    pairs = [f"fma({variable}, {real}({odd!r}), {real}({even!r}))" for even, odd in zip(terms[::2], terms[1::2])]
    text = pairs[-1]
    for pair in reversed(pairs[:-1]):
        text = f"fma({square}, {text}, {pair})"
    return text


def _split(number: Fraction, digits: int, parts: int) -> list[float]:
    """Return a number as the sum of some floats, of which all but the last have few binary digits."""
    found = []
    for _ in range(parts - 1):
        step = Fraction(2) ** (math.frexp(float(number))[1] - digits)
        found.append(float(number // step * step))
        number -= Fraction(found[-1])
    return [*found, float(number)]


def _values(bits: int) -> dict[str, object]:
    """Return the numbers that the texts name."""
    mantissa, bias = (23, 127) if bits == 32 else (52, 1023)
    high, low = _split(_LN2, 10 if bits == 32 else 32, 2)
    half_pi = _split(_HALF_PI, 32, 3)
    real = f"real{bits}"
    shift_exponent = mantissa
    erf_middle, erf_most, erf_tail = _ERF_TAILS[bits]
    two = 2 / math.sqrt(math.pi)
    erf_terms = [two * (-1) ** n / (math.factorial(n) * (2 * n + 1)) for n in range(12 if bits == 32 else 20)]
    factorials = [1 / math.factorial(n) for n in range(2, 8 if bits == 32 else 14)]
    return {
        "bits": bits,
        "real": real,
        "mantissa": mantissa,
        "bias": bias,
        "most": 89.0 if bits == 32 else 710.0,
        "least": -104.0 if bits == 32 else -746.0,
        "log2e": float(1 / _LN2),
        "ln2_high": high,
        "ln2_low": low,
        "shift": 1.5 * 2.0**shift_exponent,
        "shift_bits": ((shift_exponent + bias) << mantissa) | (1 << (mantissa - 1)),
        "exp_terms": _horner("r", factorials, real),
        "two_log2e": float(2 / _LN2),
        "half_ln2": float(_LN2 / 2),
        "tanh_most": 10.0 if bits == 32 else 20.0,
        "tanh_terms": _pairs("r", "z", [term * 2.0**n for n, term in enumerate(factorials, 2)], real),
        "log_terms": _horner("z", [2 / (2 * n + 1) for n in range(1, 6 if bits == 32 else 12)], real),
        "smallest": 2.0 ** (1 - bias),
        "raised": 2.0 ** (mantissa + 1),
        "raised_by": float(mantissa + 1),
        "root_bits": (bias - 1 << mantissa) + int((math.sqrt(0.5) * 2 - 1) * 2**mantissa),
        "shift64": 1.5 * 2.0**52,
        "two_over_pi": float(1 / _HALF_PI),
        "half_pi_high": half_pi[0],
        "half_pi_middle": half_pi[1],
        "half_pi_low": half_pi[2],
        "sine_terms": _horner("z", [(-1) ** n / math.factorial(2 * n + 1) for n in range(1, 9)], "real64"),
        "divisor_most": 2.0 ** (100 if bits == 32 else 1000),
        "divisor_down": 2.0 ** (-64 if bits == 32 else -500),
        "tan_eighth": math.tan(math.pi / 8),
        "half_pi": math.pi / 2,
        "quarter_pi": math.pi / 4,
        "arctan_terms": _horner("z", [(-1) ** n / (2 * n + 1) for n in range(1, 10 if bits == 32 else 22)], real),
        "erf_terms": _horner("z", erf_terms, real),
        "erf_middle": erf_middle,
        "erf_most": erf_most,
        "erf_tail": _horner("t", erf_tail, real),
        "cosine_terms": _horner("z", [(-1) ** n / math.factorial(2 * n) for n in range(1, 10)], "real64"),
    }


def helpers(called: set[tuple[str, int]], narrow: bool) -> str:
    """Return the text of functions that are called, (name, bits), and of all that they call.

    Parameters
    ----------
    called : set of (str, int)
        Names of `fastattn.jit.operations`, "floor_divide" and "within", with the width of the real numbers.
    narrow : bool
        Whether integers have 32 bits.
    """
    wanted = set(called)
    while True:
        more = {(needed, bits) for name, bits in wanted for needed in _NEEDS.get(name, ())}
        more |= {(name, 64) for name, _ in wanted if name in ("power", "sine")}
        if more <= wanted:
            break
        wanted |= more
    text = ""
    if any(name == "floor_divide" for name, _ in wanted):
        how = "Of 32 bits each, so that float64 is exact, and vectorised." if narrow else "Of 64 bits."
        quotient = "integer32(floor(real64(x) / real64(y)))" if narrow else "x // y"
        text += _FLOOR_DIVIDE.format(how=how, quotient=quotient)
    for bits in (64, 32):
        for name, body in _TEXTS.items():
            if (name, bits) not in wanted or (name == "sine" and bits == 32):
                continue
            text += (_POWER32 if (name, bits) == ("power", 32) else body).format(**_values(bits))
    return text

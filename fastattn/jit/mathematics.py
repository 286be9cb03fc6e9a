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
    # (exp(2 |x|) - 1) / (exp(2 |x|) + 1); it is 1 from 20 on.
    a = abs(x)
    e = small_expm1_{bits}(select(a < {real}(20.0), a + a, {real}(40.0)))
    t = e / (e + {real}(2.0))
    return select(x == x, select(x < {real}(0.0), -t, t), x)
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

_TEXTS = {
    "exp": _EXP,
    "small_expm1_": _EXPM1,
    "expm1": "",
    "tanh": _TANH,
    "log": _LOG,
    "log1p": _LOG1P,
    "sine": _SINES,
    "sin": _SIN,
    "cos": _COS,
    "power": _POWER,
}
_NEEDS = {
    "expm1": ("exp", "small_expm1_"),
    "tanh": ("small_expm1_",),
    "log1p": ("log",),
    "small_expm1_": ("exp",),
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
        "cosine_terms": _horner("z", [(-1) ** n / math.factorial(2 * n) for n in range(1, 10)], "real64"),
    }


def helpers(called: set[tuple[str, int]], narrow: bool) -> str:
    """Return the text of functions that are called, (name, bits), and of all that they call.

    Parameters
    ----------
    called : set of (str, int)
        Names of `fastattn.jit.operations`, and "floor_divide", with the width of the real numbers.
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

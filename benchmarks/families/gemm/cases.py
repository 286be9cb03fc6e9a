"""Sizes: ``M`` rows, ``N`` outputs, ``K`` inputs."""

from ...case import FORWARD, PRECISIONS, Case, maker

_maker = maker("gemm", "M N K", (1, 48, 32), "product", "x product")


def _case(rows: int, target: float) -> Case:
    title = f"packed GEMM, {rows} row{'s' if rows > 1 else ''} of 512 to 1536"
    return _maker(f"gemm_m{rows}", title, FORWARD, (rows, 1536, 512), target, smoke=(rows, 48, 32))


def _large(rows: int, target: float, precision: str = PRECISIONS[0]) -> Case:
    """K = N = 1024; with narrower operands the matrix is rounded when it is packed, x when it is multiplied."""
    wide = precision == PRECISIONS[0]
    title = f"packed GEMM, {rows} rows of 1024 to 1024" + ("" if wide else f", {precision}")
    name = f"gemm_{'large' if wide else precision}_m{rows}"
    return _maker(name, title, FORWARD, (rows, 1024, 1024), target, smoke=(rows, 48, 32), precision=precision)


CASES = (
    *(_case(1, 1.0), _case(8, 1.3), _case(16, 1.2), _case(32, 1.1), _case(64, 1.0)),
    *(_large(64, 1.0), _large(256, 1.8), _large(1024, 1.8)),
    *(
        _large(rows, target, precision)
        for precision in PRECISIONS[1:]
        for rows, target in ((16, 1.5), (64, 1.5), (256, 1.3), (1024, 1.2))
    ),
)

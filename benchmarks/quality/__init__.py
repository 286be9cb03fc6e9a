"""How good trained models are, beside published figures; see README.md."""

from ..harness import checkout

checkout.choose()

"""How good trained models are, beside published figures; see README.md."""

from .. import checkout

checkout.choose()

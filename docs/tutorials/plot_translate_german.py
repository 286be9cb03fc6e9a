"""
Translate German in five minutes
================================

From pairs of sentences to translations: a text file, a short configuration, and five commands. The text is a small one,
so that the page is done in seconds; with a file of your own the commands are the same, and only the time is longer.

It needs ``pip install 'fastattn[seq2seq,eval,viz]'``, and no network.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

from fastattn import viz
from fastattn.seq2seq import load

# %%
# The text
# --------
# One pair a line, source and target with a tab between them. These have few words, but three things that make German
# different from English: articles that depend on the noun, verbs at the end (*hat das buch gelesen*, has read the
# book), and subjects that move behind the verb when something else comes first (*heute liest die frau*).

PAIRS = """
das kind liest das buch | the child reads the book
das kind liest den brief | the child reads the letter
der mann liest den brief | the man reads the letter
die frau liest den brief | the woman reads the letter
die frau liest ein buch | the woman reads a book
die lehrerin liest das buch | the teacher reads the book
der mann schreibt den brief | the man writes the letter
die frau schreibt ein buch | the woman writes a book
das kind schreibt einen brief | the child writes a letter
die lehrerin schreibt einen brief | the teacher writes a letter
der hund trinkt das wasser | the dog drinks the water
die katze trinkt die milch | the cat drinks the milk
das kind trinkt die milch | the child drinks the milk
der mann trinkt das wasser | the man drinks the water
die frau trinkt das wasser | the woman drinks the water
die katze isst das brot | the cat eats the bread
der hund isst das brot | the dog eats the bread
der mann isst die suppe | the man eats the soup
das kind isst die suppe | the child eats the soup
die lehrerin isst das brot | the teacher eats the bread
der hund sieht die katze | the dog sees the cat
die katze sieht den hund | the cat sees the dog
das kind sieht den hund | the child sees the dog
der mann sieht das bild | the man sees the picture
die frau sieht das kind | the woman sees the child
die lehrerin sieht den ball | the teacher sees the ball
der hund sucht den ball | the dog seeks the ball
das kind sucht den ball | the child seeks the ball
der mann sucht den hund | the man seeks the dog
die frau sucht die katze | the woman seeks the cat
die frau malt ein bild | the woman paints a picture
das kind malt ein bild | the child paints a picture
die lehrerin malt das bild | the teacher paints the picture
der mann kauft das brot | the man buys the bread
die frau kauft ein bild | the woman buys a picture
die lehrerin kauft ein buch | the teacher buys a book
der mann hat das buch gelesen | the man has read the book
die frau hat das buch gelesen | the woman has read the book
das kind hat den brief gelesen | the child has read the letter
die lehrerin hat den brief gelesen | the teacher has read the letter
der mann hat einen brief geschrieben | the man has written a letter
die frau hat den brief geschrieben | the woman has written the letter
die lehrerin hat ein buch geschrieben | the teacher has written a book
der hund hat das wasser getrunken | the dog has drunk the water
die katze hat die milch getrunken | the cat has drunk the milk
das kind hat das wasser getrunken | the child has drunk the water
der mann hat die milch getrunken | the man has drunk the milk
der hund hat die suppe gegessen | the dog has eaten the soup
die katze hat das brot gegessen | the cat has eaten the bread
das kind hat das brot gegessen | the child has eaten the bread
die frau hat die suppe gegessen | the woman has eaten the soup
der hund hat den ball gesehen | the dog has seen the ball
die katze hat den hund gesehen | the cat has seen the dog
das kind hat die katze gesehen | the child has seen the cat
der mann hat die frau gesehen | the man has seen the woman
die lehrerin hat das kind gesehen | the teacher has seen the child
die frau hat den hund gesucht | the woman has sought the dog
das kind hat den ball gesucht | the child has sought the ball
der mann hat die katze gesucht | the man has sought the cat
der mann hat ein bild gemalt | the man has painted a picture
das kind hat das bild gemalt | the child has painted the picture
die frau hat das brot gekauft | the woman has bought the bread
der mann hat die milch gekauft | the man has bought the milk
die lehrerin hat das bild gekauft | the teacher has bought the picture
heute liest der mann das buch | today the man reads the book
heute liest das kind den brief | today the child reads the letter
heute schreibt die frau einen brief | today the woman writes a letter
heute trinkt die katze das wasser | today the cat drinks the water
heute trinkt das kind die milch | today the child drinks the milk
heute isst der mann das brot | today the man eats the bread
heute isst die frau die suppe | today the woman eats the soup
heute sucht der hund den ball | today the dog seeks the ball
heute malt die lehrerin ein bild | today the teacher paints a picture
heute kauft die frau das buch | today the woman buys the book
heute sieht der mann die katze | today the man sees the cat
heute hat der mann den brief gelesen | today the man has read the letter
heute hat die frau ein buch gelesen | today the woman has read a book
heute hat das kind einen brief geschrieben | today the child has written a letter
heute hat der hund das wasser getrunken | today the dog has drunk the water
heute hat die katze den ball gesucht | today the cat has sought the ball
heute hat das kind die suppe gegessen | today the child has eaten the soup
heute hat die lehrerin den hund gesehen | today the teacher has seen the dog
heute hat der mann das bild gekauft | today the man has bought the picture
heute hat die frau das bild gemalt | today the woman has painted the picture
"""

UNSEEN = """
der mann liest das buch | the man reads the book
das kind isst das brot | the child eats the bread
die katze hat das wasser getrunken | the cat has drunk the water
die lehrerin hat das buch gelesen | the teacher has read the book
heute liest die frau den brief | today the woman reads the letter
heute sucht das kind den hund | today the child seeks the dog
heute hat die frau den brief geschrieben | today the woman has written the letter
heute hat das kind das wasser getrunken | today the child has drunk the water
"""

folder = tempfile.TemporaryDirectory()
here = Path(folder.name)
for name, text in (("train.tsv", PAIRS), ("test.tsv", UNSEEN)):
    (here / name).write_text(text.strip().replace(" | ", "\t") + "\n")
print(len(PAIRS.strip().splitlines()), "pairs to learn from,", len(UNSEEN.strip().splitlines()), "others for the test")

# %%
# The configuration
# -----------------
# What is read, what a token is, how large the model is, and how long it learns. All else has a default. The dropout
# switches off a share of the numbers while the model learns, so that it cannot know the few sentences by heart.

(here / "german.toml").write_text("""
[data]
train = "train.tsv"

[vocabulary]
source = "word"
target = "word"

[model]
kind = "bahdanau"
embedding = 48
hidden = 64
attention = 64
readout_width = 48
dropout = 0.4

[training]
epochs = 60
tokens_per_batch = 128
rate = 0.005
""")  # fmt: skip

# %%
# The commands
# ------------
# In a shell you type what stands in the quotation marks. ``train`` writes a folder with the model, here ``german``.


def shell(line):
    """Run a command as a shell does, and show what it prints."""
    line = line.replace("fastattn", f'"{sys.executable}" -m fastattn', 1)
    done = subprocess.run(line, shell=True, cwd=here, capture_output=True, text=True, check=True)
    print(done.stdout, end="")
    return done.stdout


shell("fastattn train german.toml --quiet")

# %%
# ``translate`` takes one sentence a line. None of these was learnt from.

(here / "sentences.txt").write_text("".join(line.split(" | ")[0] + "\n" for line in UNSEEN.strip().splitlines()))
translations = shell("fastattn translate german sentences.txt").splitlines()

# %%
# ``evaluate`` compares with the right answers: BLEU and chrF, which count common pieces, and the share of wrong words.

shell("fastattn evaluate german test.tsv")

# %%
# ``translate --best 2`` shows the second choice of the search as well, with the logarithm of its probability, and
# ``heatmap`` writes a picture, or a page that shows the weights under the mouse.

shell('echo "heute hat die frau den brief geschrieben" | fastattn translate german --best 2')
shell('fastattn heatmap german "heute hat die frau den brief geschrieben" -o map.html')

# %%
# From Python
# -----------
# The folder is all that a program needs.

translator = load(here / "german")
print(translator.translate(["die katze hat das wasser getrunken"]))

# %%
# What the model looked at, word by word. Where German has the verb at the end, the decoder goes there for it, and then
# comes back for the object: no rule about word order was given, and no alignment.

figure, panels = plt.subplots(1, 2, figsize=(12, 4.6), layout="constrained")
for axes, text in zip(panels, ("heute liest die frau den brief", "heute hat die frau den brief geschrieben")):
    found = translator.align(text)
    viz.heatmap(found.map(), found.source_tokens, found.tokens, vmax=found.weights.max(), ax=axes)

# %%
# These are the words for which it looked at the German verb more than at anything else:

verb = found.source_tokens.index("geschrieben")
verbs = [word for word, row in zip(found.tokens, found.weights) if row.argmax() == verb]
print(*verbs)

# %%
# A map is not a dictionary, though. A state of the encoder has read the words around its own too, and with so few
# sentences the model may well take *today* from a state that stands elsewhere. More text makes maps more orderly.
#
# Your own text
# -------------
# A file of your own takes the place of ``train.tsv``. Beyond some ten thousand pairs, change this:
#
# - ``source = "bpe"`` and ``target = "bpe"``: words are cut into frequent pieces, so that none is unknown
#   (``pip install 'fastattn[text]'``).
# - ``validation = "validation.tsv"`` and ``patience = 3``: some pairs are kept apart, and training ends when it does no
#   longer help on them.
# - ``hidden = 256`` or more, and fewer epochs.
# - ``kind = "luong"`` or ``kind = "transformer"``: another model, the same commands.
#
# ``fastattn train german.toml --resume`` goes on with a run that was broken off, with the bits of one that was not.

folder.cleanup()
plt.show()

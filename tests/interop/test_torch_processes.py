"""PyTorch's processes: workers of a DataLoader, and two that train one model over gloo."""

import datetime
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch import distributed, nn  # noqa: E402

import fastattn  # noqa: E402
from fastattn.interop import torch as ours  # noqa: E402


class Attended(torch.utils.data.Dataset):
    """Samples that are attended to where they are loaded."""

    def __len__(self):
        return 6

    def __getitem__(self, i):
        x = torch.arange(64 * 32, dtype=torch.float32).reshape(1, 64, 32).mul(i + 1).sin()
        return ours.scaled_dot_product_attention(x, x, x)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Exception ignored in. <function _at_fork")  # JAX's word, where a test loaded it
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_workers_of_a_loader_that_are_forked():
    data = Attended()
    here = torch.stack([data[i] for i in range(6)])  # the pool has its threads before the fork
    loader = torch.utils.data.DataLoader(data, 2, num_workers=2, multiprocessing_context="fork", timeout=60)
    assert torch.equal(torch.cat(list(loader)), here)


ON_ITS_THREADS = """
import os, signal, time
from pathlib import Path
import numpy as np, torch, fastattn
from fastattn.interop.torch import tensors

torch.set_num_threads(2)
tensors.follow_threads()
torch.ones(4_000_000).sin()  # its threads begin
x = np.random.default_rng(0).standard_normal((4, 4, 256, 64), np.float32)
both = fastattn.attention(x, x, x)
print("fastattn" in [thread.joinpath("comm").read_text().strip() for thread in Path("/proc/self/task").iterdir()])
child = os.fork()
if not child:
    signal.alarm(60)
    os._exit(0 if fastattn.attention(x, x, x).tobytes() == both.tobytes() else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
time.sleep(0.1)
whole, own = time.process_time(), time.thread_time()
while time.process_time() - whole < 1:
    fastattn.attention(x, x, x)
print((time.thread_time() - own) / (time.process_time() - whole) < 0.8)
fastattn.set_num_threads(1)
print(fastattn.attention(x, x, x).tobytes() == both.tobytes())
"""


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads of PyTorch are found on Linux alone")
@pytest.mark.skipif(fastattn.show_config(as_dict=True)["backend"] != "c", reason="Numba has threads of its own")
@pytest.mark.parametrize("place", ["installed", "linked"])
def test_kernels_run_on_the_threads_of_pytorch(place, tmp_path):
    """No thread of ours begins, a forked child has its own, both threads work after many calls, with the bits of one.

    Linked: the module's path is not the one by which the system knows the file.
    """
    folder = Path(torch.__file__).parents[1]
    if place == "linked":
        (tmp_path / "packages").symlink_to(folder)
        folder = tmp_path / "packages"
    code = f"import sys; sys.path.insert(1, {str(folder)!r})\n{ON_ITS_THREADS}"
    found = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    assert found.stdout.split() == ["False", "0", "True", "True"]


WITHOUT_REQUESTS = """
import torch
from torch.nn.attention import flex_attention
for name in ("AuxRequest", "AuxOutput"):
    vars(flex_attention).pop(name, None)
from fastattn.interop import torch as ours
x = torch.ones(1, 2, 5, 4)
print(*ours.flex_attention(x, x, x, return_lse=True)[1].shape)
"""


def test_releases_without_requests_of_auxiliary_outputs():
    found = subprocess.run([sys.executable, "-c", WITHOUT_REQUESTS], stdout=subprocess.PIPE, text=True, check=True)
    assert found.stdout.split() == ["1", "2", "5"]


class Model(nn.Module):
    """Our modules, one over the other."""

    def __init__(self):
        super().__init__()
        self.heads = ours.MultiheadAttention(16, 4, batch_first=True)
        self.additive = ours.AdditiveAttention(16, 16, 12, bias=True)
        self.luong = ours.LuongAttention(16, 16, score="concat", output_width=16)

    def forward(self, x):
        y, weights = self.heads(x, x, x)
        z = self.luong(y + self.additive(x, y), x)
        return z.square().mean() + weights.pow(3).mean()


def batches():
    return torch.randn(2, 4, 9, 16, generator=torch.Generator().manual_seed(5))


def made():
    torch.manual_seed(1)
    return Model()


def rank(number, port, path):
    """Write the gradients that one of two processes has after a step."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port, GLOO_SOCKET_IFNAME="lo")
    distributed.init_process_group("gloo", rank=int(number), world_size=2, timeout=datetime.timedelta(seconds=60))
    model = nn.parallel.DistributedDataParallel(made())
    model(batches()[int(number)]).backward()
    np.savez(path, **{name.removeprefix("module."): one.grad.numpy() for name, one in model.named_parameters()})
    del model  # the last reference to the group would end it holding the lock that its threads wait for
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    paths = [str(tmp_path / f"{number}.npz") for number in range(2)]
    command = [sys.executable, __file__]
    given = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    started = [subprocess.Popen([*command, str(n), port, path], env=given) for n, path in enumerate(paths)]
    model, halves = made(), []
    for x in batches():
        model.zero_grad()
        model(x).backward()
        halves.append({name: one.grad.clone() for name, one in model.named_parameters()})
    assert [process.wait(120) for process in started] == [0, 0]
    for path in paths:
        found = np.load(path)
        for name, one in halves[0].items():
            assert found[name].tobytes() == ((one + halves[1][name]) / 2).numpy().tobytes(), name


def test_calls_of_several_threads():
    from threading import Thread

    x = torch.randn(4, 2, 33, 16)
    expected = ours.scaled_dot_product_attention(x, x, x)
    wrong = []

    def call():
        for _ in range(20):
            if not torch.equal(ours.scaled_dot_product_attention(x, x, x), expected):
                wrong.append(sys.exc_info())

    threads = [Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


if __name__ == "__main__":
    rank(*sys.argv[1:])

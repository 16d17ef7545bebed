"""The optimizer: the steps of torch's own, at its learning rates, without what torch's own imports."""

import subprocess
import sys

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from mirip.models.optimizer import AdamW, cosine_rate
from mirip.params import TrainParams


def made_parameters() -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(*shape, generator=generator)) for shape in ((4, 3), (4,), (2, 2))]


def set_gradients(parameters: list[torch.nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for parameter in parameters[:-1]:  # the last one has none
        parameter.grad = torch.randn(*parameter.shape, generator=generator)


def test_it_steps_as_the_one_of_torch_does() -> None:
    ours, theirs = made_parameters(), made_parameters()
    mine, reference = AdamW(ours, 0.1), torch.optim.AdamW(theirs, lr=0.5, weight_decay=0.1)
    for step in range(5):
        for parameters in (ours, theirs):
            set_gradients(parameters, step)
        mine.step(0.5 / (step + 1))
        reference.param_groups[0]["lr"] = 0.5 / (step + 1)
        reference.step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)
    mine.zero_grad()
    assert all(parameter.grad is None for parameter in ours)


def test_it_goes_on_from_its_state() -> None:
    through, first, second = made_parameters(), made_parameters(), made_parameters()
    whole, before, after = AdamW(through, 0.1), AdamW(first, 0.1), AdamW(second, 0.1)
    for step in range(4):
        set_gradients(through, step)
        whole.step(0.1)
        if step < 2:
            set_gradients(first, step)
            before.step(0.1)
    for mine, theirs in zip(second, first, strict=True):
        mine.data.copy_(theirs.data)
    after.load_state_dict(before.state_dict())
    for step in (2, 3):
        set_gradients(second, step)
        after.step(0.1)
    assert all(torch.equal(one, other) for one, other in zip(through, second, strict=True))


def test_the_learning_rate_is_a_cosine_that_does_not_rise_again() -> None:
    config = TrainParams(learning_rate=0.2, scheduler_t_max=10, scheduler_eta_min=0.01)
    reference = torch.optim.SGD(made_parameters(), lr=0.2)
    scheduler = CosineAnnealingLR(reference, T_max=10, eta_min=0.01)
    for epoch in range(1, 11):
        assert cosine_rate(config, epoch) == pytest.approx(reference.param_groups[0]["lr"])
        reference.step()
        scheduler.step()
    assert [cosine_rate(config, epoch) for epoch in (11, 12, 50)] == pytest.approx([0.01] * 3)


@pytest.mark.slow
def test_a_training_does_not_import_the_compiler_of_torch(project_root) -> None:
    program = (
        "import sys; sys.path[:0] = ['tests']; from made_ranking_data import SMALL, made_data; "
        "from mirip.models.trainer import Trainer; from mirip.params import TrainParams; "
        "Trainer(TrainParams(head=SMALL, max_epochs=1, images_per_step=64)).fit(made_data(80, 0), made_data(40, 1)); "
        "print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=project_root, check=True)
    assert done.stdout.strip() == "False"

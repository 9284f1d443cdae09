import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from landseer.losses.adacos import dynamic_scale, fixed_scale
from landseer.losses.head import MarginHead
from landseer.losses.margins import size_margins
from landseer.losses.triplet import batch_hard_triplet
from landseer.recipe.loss_options import LossOptions

PHOTOS, DIM, LANDMARKS = 6, 5, 4
ROWS = torch.tensor([0, 3, 1, 1, 2, 0])
COUNTS = np.array([40, 3, 7, 1])
WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 1.5, 0.25, 1.0], dtype=torch.float64)


def make_head(seed=0, *, dim=DIM, landmarks=LANDMARKS, dtype=torch.float64, photos_C=None, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MarginHead(dim, landmarks, options=LossOptions(**options), photos_C=photos_C).to(dtype)


def make_descriptors(seed=1, *, photos=PHOTOS, dim=DIM, dtype=torch.float64):
    rows = torch.randn(photos, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(rows, dim=1).to(dtype)


def dot(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True))


def slow_loss(head, descriptors, rows, weights=None, smoothing=0.0):
    """One photo, one landmark, one sub-centre at a time."""
    options, margins = head.options, [head.options.margin] * head.num_landmarks
    if options.margins != "same":
        margins = size_margins(COUNTS, rule=options.margins).tolist()
    total = 0.0
    for photo, (descriptor, target) in enumerate(zip(descriptors.tolist(), rows.tolist(), strict=True)):
        logits = []
        for landmark in range(head.num_landmarks):
            first = landmark * options.subcentres
            own = head.rows.tolist()[first : first + options.subcentres]
            if options.kind == "softmax":
                logits.append(dot(descriptor, own[0]) + head.bias.tolist()[landmark])
                continue
            cosine = max(dot(descriptor, row) / math.hypot(*row) for row in own)
            if landmark == target and options.kind == "cosine":
                cosine -= margins[landmark]
            elif landmark == target:
                angle, margin = math.acos(cosine), margins[landmark]
                bent = cosine - margin * math.sin(margin)
                cosine = math.cos(angle + margin) if angle < math.pi - margin else bent
            logits.append((options.scale or fixed_scale(head.num_landmarks)) * cosine)
        log_total = math.log(sum(math.exp(logit) for logit in logits))
        surprise = [log_total - logit for logit in logits]
        loss = (1 - smoothing) * surprise[target] + smoothing * sum(surprise) / len(surprise)
        total += loss * (1.0 if weights is None else weights[photo].item())
    return total / len(rows)


KINDS = [
    {"kind": "softmax"},
    {"kind": "cosine"},
    {"kind": "cosine", "scale": 30.0, "margin": 0.3},
    {"kind": "arcface", "scale": 30.0, "margin": 0.3},
    {"kind": "arcface", "scale": 8.0, "margin": 1.0},
    {"kind": "arcface", "scale": 45.0, "margins": "range", "subcentres": 3},
    {"kind": "cosine", "scale": 10.0, "margins": "power", "subcentres": 2},
]


@pytest.mark.parametrize(
    ("options", "smoothing", "weights"), list(itertools.product(KINDS, (0.0, 0.1), (None, WEIGHTS)))
)
def test_every_kind_agrees_with_the_loop(options, smoothing, weights):
    head = make_head(**options, smoothing=smoothing, photos_C=COUNTS)
    if head.bias is not None:
        torch.nn.init.uniform_(head.bias)
    descriptors = make_descriptors()
    found = head(descriptors, ROWS, weight_N=weights).item()
    expected = slow_loss(head, descriptors, ROWS, weights, smoothing)
    assert found == pytest.approx(expected, rel=1e-6)  # a margin of each landmark is kept in float32


def test_a_head_has_as_many_parameters_as_its_published_form():
    """Keras counts 103,984,128 for 512 x 203,094; a softmax has a bias on top, sub-centres multiply."""
    with torch.device("meta"):
        cosine = MarginHead(512, 203_094, options=LossOptions(adacos="stateful"))
        softmax = MarginHead(512, 203_094, options=LossOptions(kind="softmax"))
        three = MarginHead(512, 81_313, options=LossOptions(kind="arcface", subcentres=3))
    assert sum(p.numel() for p in cosine.parameters()) == 103_984_128
    assert sum(p.numel() for p in softmax.parameters()) == 103_984_128 + 203_094
    assert three.rows.shape == (3 * 81_313, 512)


def test_rows_start_xavier_uniform():
    head = make_head(dim=64, landmarks=500, dtype=torch.float32)
    bound = math.sqrt(6 / (500 + 64))
    assert head.rows.abs().max().item() <= bound
    assert head.rows.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.01)
    assert torch.equal(make_head(kind="softmax").bias, torch.zeros(LANDMARKS, dtype=torch.float64))


@pytest.mark.parametrize(("landmarks", "subcentres"), [(5, 1), (8192, 1), (8193, 1), (6000, 3)])
def test_rows_start_as_torch_would_have_them(landmarks, subcentres):
    """They are drawn block by block."""
    options = LossOptions(subcentres=subcentres)
    torch.manual_seed(7)
    head, after = MarginHead(3, landmarks, options=options), torch.rand(2)
    torch.manual_seed(7)
    assert torch.equal(head.rows, torch.nn.init.xavier_uniform_(torch.empty(landmarks * subcentres, 3)))
    assert torch.equal(torch.rand(2), after)


def test_the_nearest_subcentre_counts_and_alone_learns():
    head = make_head(dim=2, landmarks=2, subcentres=2, kind="arcface", margin=0.1)
    rows = [[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0], [0.0, -1.0]]
    head.rows.data = torch.tensor(rows, dtype=torch.float64)
    descriptor = F.normalize(torch.tensor([[0.6, 0.8]], dtype=torch.float64), dim=1)
    assert head.cosines(descriptor).tolist() == [pytest.approx([0.8, -0.6])]
    head(descriptor, torch.tensor([0])).backward()
    assert [bool(row.abs().sum() > 0) for row in head.rows.grad] == [False, True, True, False]


@pytest.mark.parametrize("options", KINDS, ids=lambda options: "-".join(map(str, options.values())))
def test_gradcheck(options):
    head = make_head(**options, smoothing=0.1, triplet=0.5, photos_C=COUNTS)
    if head.margin_C is not None:
        head.margin_C = head.margin_C.double()
    descriptors = make_descriptors().requires_grad_()
    head.rows.data = F.normalize(head.rows.data, dim=1)  # far from 0, where a finite difference is rough

    def loss(descriptors, rows):
        return torch.func.functional_call(head, {"rows": rows}, (descriptors, ROWS), {"weight_N": WEIGHTS})

    assert torch.autograd.gradcheck(loss, (descriptors, head.rows))


HALF = [torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize(("dtype", "options"), list(itertools.product(HALF, KINDS[1:])))
def test_gradients_are_finite_at_cosines_of_one_and_minus_one(dtype, options):
    head = make_head(**options, photos_C=COUNTS, dtype=torch.float32)
    own = F.normalize(head.rows.detach(), dim=1)[:: head.options.subcentres]
    descriptors = torch.cat([own, -own]).to(dtype).requires_grad_()
    rows = torch.arange(LANDMARKS).repeat(2)
    with torch.autocast("cpu", dtype=torch.bfloat16 if dtype == torch.float32 else dtype):
        loss = head(descriptors, rows)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert descriptors.grad.isfinite().all()
    assert head.rows.grad.isfinite().all()


@pytest.mark.parametrize("options", KINDS, ids=lambda options: "-".join(map(str, options.values())))
def test_autocast_changes_nothing(options):
    head = make_head(**options, triplet=1.0, photos_C=COUNTS, dtype=torch.float32)
    descriptors = make_descriptors(dtype=torch.float32)
    plain = head(descriptors, ROWS), head.validation_loss(descriptors, ROWS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = head(descriptors, ROWS), head.validation_loss(descriptors, ROWS)
    assert plain == cast


@pytest.mark.parametrize("rows", [torch.float32, torch.bfloat16])
def test_half_precision_loses_no_more_than_the_rounding_of_its_inputs(rows):
    head = make_head(kind="arcface", scale=64.0, margin=0.5, dtype=rows)
    descriptors = make_descriptors().bfloat16()
    exact = head(descriptors.double(), ROWS).item()
    assert head(descriptors, ROWS).item() == pytest.approx(exact, rel=1e-5)


@settings(deadline=None, max_examples=50)
@given(
    st.integers(0, 2**32 - 1),
    st.floats(0.0, 1.0),
    st.floats(0.0, 1.0),
    st.sampled_from(["cosine", "arcface"]),
)
def test_a_larger_margin_never_costs_less(seed, one, other, kind):
    head, descriptors = make_head(seed, kind=kind), make_descriptors(seed + 1)
    low, high = sorted((one, other))
    assert head(descriptors, ROWS, margin=low) <= head(descriptors, ROWS, margin=high) + 1e-9


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.permutations(range(LANDMARKS)), st.sampled_from(KINDS))
def test_the_order_of_landmarks_does_not_matter(seed, order, options):
    head = make_head(seed, **options, photos_C=COUNTS)
    moved = make_head(seed, **options, photos_C=COUNTS[list(order)])
    blocks = head.rows.data.view(LANDMARKS, -1, DIM)
    moved.rows.data = blocks[list(order)].reshape(-1, DIM)
    descriptors = make_descriptors(seed + 1)
    new_row = torch.tensor([order.index(row) for row in ROWS.tolist()])
    assert moved(descriptors, new_row).item() == pytest.approx(head(descriptors, ROWS).item())


@pytest.mark.parametrize("options", KINDS[1:], ids=lambda options: "-".join(map(str, options.values())))
def test_lengths_do_not_matter_to_cosines(options):
    head, descriptors = make_head(**options, photos_C=COUNTS), make_descriptors()
    before = head(descriptors, ROWS).item()
    head.rows.data *= torch.rand(len(head.rows), 1, dtype=torch.float64) + 0.1
    assert head(3.0 * descriptors, ROWS).item() == pytest.approx(before)


def test_a_schedule_stands_in_for_the_margin():
    head, descriptors = make_head(kind="arcface", margin=0.15), make_descriptors()
    raised = make_head(kind="arcface", margin=0.3)
    assert head(descriptors, ROWS, margin=0.3) == raised(descriptors, ROWS)
    assert head(descriptors, ROWS, margin=0.0) == make_head(kind="cosine")(descriptors, ROWS)


@pytest.mark.parametrize(
    ("options", "margin", "message"),
    [
        ({"kind": "softmax"}, 0.1, 'kind "softmax" has none'),
        ({"margins": "range"}, 0.1, "margins = 'range' sets every landmark's own"),
        ({}, 1.5, r"must lie in 0\.\.1, not 1\.5"),
    ],
)
def test_a_schedule_without_a_margin_to_follow_is_refused(options, margin, message):
    with pytest.raises(ValueError, match=message):
        make_head(**options, photos_C=COUNTS)(make_descriptors(), ROWS, margin=margin)


@pytest.mark.parametrize("options", KINDS, ids=lambda options: "-".join(map(str, options.values())))
def test_validation_is_plain_cross_entropy_at_the_scale_of_training(options):
    head = make_head(**options, smoothing=0.2, triplet=1.0, photos_C=COUNTS)
    plain = {key: value for key, value in options.items() if key not in ("margin", "margins")}
    bare = make_head(**plain | ({"scale": head.fixed_scale} if plain["kind"] != "softmax" else {}))
    descriptors = make_descriptors()
    found = head.validation_loss(descriptors, ROWS)
    assert found.item() == pytest.approx(slow_loss(bare, descriptors, ROWS))
    assert not found.requires_grad


def test_dynamic_scale_starts_anew_with_every_batch():
    head = make_head(adacos="dynamic", landmarks=60)
    for seed in (1, 2):
        descriptors = make_descriptors(seed)
        cosines = head.cosines(descriptors)
        scale = dynamic_scale(cosines, ROWS, math.sqrt(2) * math.log(59))
        expected = F.cross_entropy(scale * cosines, ROWS)
        assert head(descriptors, ROWS).item() == pytest.approx(expected.item())
        assert head.validation_loss(descriptors, ROWS).item() == pytest.approx(expected.item())
    assert "running_scale" not in head.state_dict()


def test_stateful_scale_goes_on_from_the_last_batch_and_is_stored():
    head = make_head(adacos="stateful", landmarks=60)
    scale = math.sqrt(2) * math.log(59)
    for seed in (1, 2, 3):
        descriptors = make_descriptors(seed)
        cosines = head.cosines(descriptors)
        scale = dynamic_scale(cosines, ROWS, scale)
        assert head(descriptors, ROWS).item() == pytest.approx(F.cross_entropy(scale * cosines, ROWS).item())
    again = make_head(9, adacos="stateful", landmarks=60)
    again.load_state_dict(head.state_dict())
    assert again.running_scale.item() == pytest.approx(scale.item())


def test_validation_leaves_the_running_scale_alone():
    head, descriptors = make_head(adacos="stateful", landmarks=60), make_descriptors()
    head(descriptors, ROWS)
    after = head.running_scale.item()
    expected = F.cross_entropy(after * head.cosines(descriptors), ROWS).item()
    assert head.validation_loss(descriptors, ROWS).item() == pytest.approx(expected)
    assert head.eval()(descriptors, ROWS).item() == pytest.approx(expected)
    assert head.running_scale.item() == after
    assert head.train()(descriptors, ROWS).item() != pytest.approx(expected)


def test_two_batches_may_run_before_either_is_differentiated():
    head = make_head(adacos="stateful", kind="arcface", margin=0.2, landmarks=60)
    (head(make_descriptors(1), ROWS) + head(make_descriptors(2), ROWS)).backward()
    assert head.rows.grad.isfinite().all()


def test_the_triplet_loss_is_added():
    descriptors = make_descriptors()
    hard = batch_hard_triplet(descriptors, ROWS, margin=0.3)
    assert hard > 0
    found = make_head(triplet=0.5)(descriptors, ROWS) - make_head()(descriptors, ROWS)
    assert found.item() == pytest.approx(0.5 * hard.item())


def test_the_sum_is_divided_by_photos_not_by_weights():
    head, descriptors = make_head(), make_descriptors()
    doubled = head(descriptors, ROWS, weight_N=torch.full((PHOTOS,), 2.0))
    assert doubled.item() == pytest.approx(2 * head(descriptors, ROWS).item())


SAMPLED = {"scale": 9.0, "kind": "arcface", "margin": 0.2, "subcentres": 2}


def step_of(head, descriptors, seed):
    """Loss, gradients, and the landmarks that took part."""
    torch.manual_seed(seed)
    leaf = descriptors.clone().requires_grad_()
    head.zero_grad()
    loss = head(leaf, ROWS)
    loss.backward()
    grad = head.rows.grad.clone()
    return (
        loss.item(),
        leaf.grad,
        grad,
        grad.unflatten(0, (head.num_landmarks, -1)).flatten(1).any(dim=1).nonzero()[:, 0],
    )


@pytest.mark.parametrize("options", [SAMPLED, {"kind": "softmax"}, {"scale": 9.0}])
def test_a_step_compares_with_the_drawn_landmarks_and_the_photos_own(options):
    head, descriptors = make_head(landmarks=50, negatives=0.2, **options), make_descriptors()
    if head.bias is not None:
        torch.nn.init.uniform_(head.bias)
    loss, descriptors_grad, grad, kept = step_of(head, descriptors, 3)
    assert {0, 1, 2, 3} <= set(kept.tolist())
    assert len(kept) == 4 + 9  # a fifth of 46
    small = make_head(landmarks=13, **options)
    small.rows.data = head.rows.data.unflatten(0, (50, -1))[kept].flatten(0, 1)
    if head.bias is not None:
        small.bias.data = head.bias.data[kept]
        assert head.bias.grad.nonzero()[:, 0].tolist() == kept.tolist()
    expected = step_of(small, descriptors, 3)  # the photos' own are the first four in both
    assert loss == pytest.approx(expected[0])
    torch.testing.assert_close(descriptors_grad, expected[1])
    torch.testing.assert_close(grad.unflatten(0, (50, -1))[kept].flatten(0, 1), expected[2])


def test_draws_follow_the_random_state_and_are_fair():
    head, descriptors = make_head(landmarks=50, negatives=0.2), make_descriptors()
    drawn = [frozenset(step_of(head, descriptors, seed)[3].tolist()) for seed in range(300)]
    assert frozenset(step_of(head, descriptors, 1)[3].tolist()) == drawn[1]
    assert len(set(drawn)) > 290
    often = torch.tensor([[landmark in one for one in drawn] for landmark in range(4, 50)]).sum(dim=1)
    assert often.sum() == 9 * 300
    assert 25 < often.min() < often.max() < 105  # 58.7 of 300, give or take 6.9


def test_two_steps_draw_two_samples():
    head, descriptors = make_head(landmarks=50, negatives=0.2), make_descriptors()
    torch.manual_seed(0)
    assert head(descriptors, ROWS) != head(descriptors, ROWS)


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_at_least_one_other_landmark_is_drawn_where_there_is_one(share):
    for landmarks in (4, 5):
        assert (
            len(step_of(make_head(landmarks=landmarks, negatives=share), make_descriptors(), 0)[3])
            == landmarks
        )


def test_only_training_draws_and_only_where_it_is_asked_for():
    descriptors, whole = make_descriptors(), make_head(landmarks=50)
    before = torch.get_rng_state()
    sampled = make_head(landmarks=50, negatives=0.2)
    assert sampled.validation_loss(descriptors, ROWS) == whole.validation_loss(descriptors, ROWS)
    assert sampled.eval()(descriptors, ROWS) == whole(descriptors, ROWS)
    assert sampled.fixed_scale == whole.fixed_scale
    assert torch.equal(torch.get_rng_state(), before)
    assert sampled.train()(descriptors, ROWS) < whole(descriptors, ROWS)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="at least 2 landmarks, not 1"):
        make_head(landmarks=1)
    with pytest.raises(ValueError, match="photos of each of the 4 landmarks, got none"):
        make_head(margins="power")
    with pytest.raises(ValueError, match="photos of each of the 4 landmarks, got 2"):
        make_head(margins="range", photos_C=np.array([1, 2]))
    with pytest.raises(ValueError, match=r"6 photos but weights \(5,\)"):
        make_head()(make_descriptors(), ROWS, weight_N=torch.ones(5))


@pytest.mark.parametrize(
    ("options", "name", "arguments"),
    [
        ({"kind": "arcface"}, "ArcFaceLoss", {"margin": math.degrees(0.3)}),
        ({"kind": "cosine"}, "CosFaceLoss", {"margin": 0.3}),
        (
            {"kind": "arcface", "subcentres": 3},
            "SubCenterArcFaceLoss",
            {"margin": math.degrees(0.3), "sub_centers": 3},
        ),
    ],
)
def test_agrees_with_pytorch_metric_learning(options, name, arguments):
    peers = pytest.importorskip("pytorch_metric_learning.losses")
    head, descriptors = make_head(scale=30.0, margin=0.3, **options), make_descriptors()
    peer = getattr(peers, name)(num_classes=LANDMARKS, embedding_size=DIM, scale=30, **arguments).double()
    peer.W.data = head.rows.detach().T.clone()
    assert head(descriptors, ROWS).item() == pytest.approx(peer(descriptors, ROWS).item(), rel=1e-6)


def test_the_program_in_the_document_runs():
    page = (Path(__file__).parents[2] / "docs" / "losses.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    names = {}
    exec(program, names)
    assert names["loss"].isfinite()
    assert names["head"].rows.grad.isfinite().all()
    assert names["weight_N"].mean() == pytest.approx(1.0)

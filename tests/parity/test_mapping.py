"""A mapping is proposed from shapes, order, values and names; what nothing decides stays open."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapping_support import apart, made, pairs

from porting.errors import FormatError, MismatchError, UsageError
from porting.parity.mapped import mapped
from porting.parity.mapping import Ambiguous, Correspondence, LeftOut, Matched, Pairing, leave_out
from porting.parity.mapping_file import mapping_text, read_mapping, write_mapping
from porting.parity.matching.propose import propose_mapping
from porting.parity.matching.search import summaries


def random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def chain(count=5, seed=0):
    """Taps of one shape whose values tell them apart."""
    return [random(4, 6, seed=seed + i) * (1 + i) for i in range(count)]


def named(arrays, template):
    return {template.format(i): array for i, array in enumerate(arrays)}


def known_names(source, target):
    return {
        part: {"source": list(summaries(source, part)), "target": list(summaries(target, part))}
        for part in ("taps", "weights")
    }


def left_out(side, reason):
    """A table that goes before the weights' pair."""
    return f'[[weights.left_out]]\nside = "{side}"\nname = "w"\nreason = "{reason}"\n[[weights.pair]]'


class TestTaps:
    def test_names_of_no_kin_are_paired_by_order_and_values(self, tmp_path):
        arrays = chain()
        a, b = made(tmp_path / "a", named(arrays, "block.{}")), made(tmp_path / "b", named(arrays, "cell{}x"))
        found = propose_mapping(a, b).taps
        assert pairs(found) == {f"block.{i}": (f"cell{i}x", ()) for i in range(5)}
        assert all(pair.confidence > 0.99 and pair.reason.startswith("values") for pair in found.pairs)

    def test_channels_last(self, tmp_path):
        images = [random(2, 3, 8, 8, seed=i) for i in range(3)]
        last = [np.ascontiguousarray(image.transpose(0, 2, 3, 1)) for image in images]
        a, b = made(tmp_path / "a", named(images, "a{}")), made(tmp_path / "b", named(last, "b{}"))
        mapping = propose_mapping(a, b)
        assert pairs(mapping.taps) == {f"a{i}": (f"b{i}", (0, 3, 1, 2)) for i in range(3)}
        assert set(apart(a, b, mapping).values()) == {0.0}

    def test_a_tap_that_only_one_side_has_is_unmatched(self, tmp_path):
        arrays = chain()
        a = made(tmp_path / "a", named(arrays, "a{}"))
        b = made(tmp_path / "b", {f"b{i}": arrays[i] for i in (0, 1, 3, 4)})
        found = propose_mapping(a, b)
        assert pairs(found.taps) == {f"a{i}": (f"b{i}", ()) for i in (0, 1, 3, 4)}
        assert found.taps.unmatched == {"source": ("a2",), "target": ()}
        assert not found.settled

    def test_a_container_needs_no_partner(self, tmp_path):
        arrays = chain(3)
        a = made(tmp_path / "a", {"x": arrays[0], "y": arrays[1], "list": arrays[1], "z": arrays[2]})
        b = made(tmp_path / "b", {"p": arrays[0], "q": arrays[1], "r": arrays[2]})
        found = propose_mapping(a, b)
        assert found.settled
        assert len(found.taps.pairs) == 3
        (left,) = found.taps.left_out
        assert (left.side, left.name) in {("source", "y"), ("source", "list")}
        assert "the same bytes as" in left.reason

    def test_equal_evidence_is_ambiguous(self, tmp_path):
        # Three against two, of one shape, without a value or a name in common: nobody can know.
        a = made(tmp_path / "a", {f"ab{c}": random(4, 6, seed=i) for i, c in enumerate("xyz")})
        b = made(tmp_path / "b", {f"q{c}q": random(4, 6, seed=9 + i) * 1.5 for i, c in enumerate("uv")})
        found = propose_mapping(a, b).taps
        assert not found.pairs
        assert not propose_mapping(a, b).settled

    def test_equal_values_of_two_are_ambiguous(self, tmp_path):
        one = random(4, 6)
        a = made(tmp_path / "a", {"s": one, "end": random(9, seed=3)})
        b = made(tmp_path / "b", {"t": one, "u": one.copy() + 1e-7, "end": random(9, seed=3)})
        found = propose_mapping(a, b).taps
        assert pairs(found) == {"end": ("end", ())}
        (doubt,) = found.ambiguous
        assert doubt.source == "s"
        assert set(doubt.targets) == {"t", "u"}
        assert "equal evidence" in doubt.reason

    def test_branches_in_another_order(self, tmp_path):
        x, *branches, y = chain(5)
        a = made(tmp_path / "a", {"in": x, "q": branches[0], "k": branches[1], "v": branches[2], "out": y})
        b = made(tmp_path / "b", {"in": x, "V": branches[2], "Q": branches[0], "K": branches[1], "out": y})
        found = propose_mapping(a, b).taps
        assert {name: target for name, (target, _) in pairs(found).items()} == {
            "in": "in", "q": "Q", "k": "K", "v": "V", "out": "out",
        }  # fmt: skip
        assert any("out of order" in pair.reason for pair in found.pairs)

    def test_a_deviation_does_not_break_the_rest(self, tmp_path):
        arrays = chain(8)
        wrong = [*arrays[:3], *(array * 1.02 + random(4, 6, seed=77) * 0.3 for array in arrays[3:])]
        a, b = made(tmp_path / "a", named(arrays, "layer.{}")), made(tmp_path / "b", named(wrong, "cell.{}"))
        found = propose_mapping(a, b)
        assert pairs(found.taps) == {f"layer.{i}": (f"cell.{i}", ()) for i in range(8)}
        assert "values differ" in found.taps.pairs[5].reason

    def test_a_scaled_tensor_is_still_itself(self, tmp_path):
        arrays = chain(4)
        a = made(tmp_path / "a", named(arrays, "a{}"))
        b = made(tmp_path / "b", named([*arrays[:3], arrays[3] * 8], "b{}"))
        last = propose_mapping(a, b).taps.pairs[-1]
        assert (last.source, last.target) == ("a3", "b3")
        assert "up to a factor of 8" in last.reason

    def test_what_heals_was_another_tensor(self, tmp_path):
        x, before, y = chain(3)
        a = made(tmp_path / "a", {"in": x, "conv": before, "out": y})
        b = made(tmp_path / "b", {"in": x, "conv": np.maximum(before, 0), "out": y})
        found = propose_mapping(a, b).taps
        assert set(pairs(found)) == {"in", "out"}
        (doubt,) = found.ambiguous
        assert (doubt.source, doubt.targets) == ("conv", ("conv",))
        assert "those after it agree" in doubt.reason

    def test_other_models_have_nothing_in_common(self, tmp_path):
        a = made(tmp_path / "a", {"x": random(3, 5), "y": random(3, 7)}, {"w": random(5, 7)})
        b = made(tmp_path / "b", {"x": random(2, 2), "y": random(4)}, {"w": random(6, 6)})
        found = propose_mapping(a, b)
        assert not found.taps.pairs + found.weights.pairs
        assert found.weights.unmatched == {"source": ("w",), "target": ("w",)}

    def test_an_empty_capture(self, tmp_path):
        found = propose_mapping(made(tmp_path / "a"), made(tmp_path / "b", {"x": random(2)}))
        assert found.taps.unmatched == {"source": (), "target": ("x",)}


class TestWeights:
    def test_transposed(self, tmp_path):
        wide, square = random(6, 4), random(5, 5, seed=1)
        a = made(tmp_path / "a", weights={"fc.weight": wide, "sq.weight": square})
        b = made(tmp_path / "b", weights={"d/kernel": wide.T.copy(), "e/kernel": square.T.copy()})
        found = propose_mapping(a, b).weights
        assert pairs(found) == {"fc.weight": ("d/kernel", (1, 0)), "sq.weight": ("e/kernel", (1, 0))}

    def test_a_square_matrix_left_untransposed_is_doubted(self, tmp_path):
        wide, square = random(6, 4), random(5, 5, seed=1)
        a = made(tmp_path / "a", weights={"fc.weight": wide, "sq.weight": square})
        b = made(tmp_path / "b", weights={"d/kernel": wide.T.copy(), "e/kernel": square})
        found = propose_mapping(a, b).weights
        assert pairs(found) == {"fc.weight": ("d/kernel", (1, 0))}
        (doubt,) = found.ambiguous
        assert doubt.source == "sq.weight"
        assert "untransposed" in doubt.reason

    def test_a_square_matrix_of_other_values_follows_its_kind(self, tmp_path):
        wide, square = random(6, 4), random(5, 5, seed=1)
        a = made(tmp_path / "a", weights={"fc.weight": wide, "sq.weight": square})
        b = made(tmp_path / "b", weights={"fc.kernel": wide.T.copy(), "sq.kernel": square.T * 1.1 + 0.05})
        assert pairs(propose_mapping(a, b).weights)["sq.weight"] == ("sq.kernel", (1, 0))

    def test_no_shape_alone_decides_about_a_square_matrix(self, tmp_path):
        square = random(5, 5)
        a = made(tmp_path / "a", weights={"sq.weight": square}, whole=False)
        b = made(tmp_path / "b", weights={"sq.kernel": square.T.copy()}, whole=False)
        found = propose_mapping(a, b).weights
        assert not found.pairs
        assert "nothing decides between [0, 1] and [1, 0]" in found.ambiguous[0].reason

    def test_a_fresh_norm_is_told_by_its_words(self, tmp_path):
        ones, zeros = np.ones(4, np.float32), np.zeros(4, np.float32)
        a = made(
            tmp_path / "a",
            weights={"n.weight": ones, "n.bias": zeros, "n.running_mean": zeros, "n.running_var": ones},
        )
        b = made(
            tmp_path / "b",
            weights={"bn.moving_mean": zeros, "bn.moving_variance": ones, "bn.gamma": ones, "bn.beta": zeros},
        )
        assert {name: target for name, (target, _) in pairs(propose_mapping(a, b).weights).items()} == {
            "n.weight": "bn.gamma",
            "n.bias": "bn.beta",
            "n.running_mean": "bn.moving_mean",
            "n.running_var": "bn.moving_variance",
        }

    def test_a_flattened_image_in_another_order(self, tmp_path):
        image, kernel = random(2, 6, 3, 3), random(7, 54)
        last = np.ascontiguousarray(image.transpose(0, 2, 3, 1))
        other = np.ascontiguousarray(kernel.reshape(7, 6, 3, 3).transpose(2, 3, 1, 0).reshape(54, 7))
        a = made(
            tmp_path / "a",
            {"conv": image, "flat": image.reshape(2, 54)},
            {"fc.weight": kernel},
            gradients={"fc.weight": kernel},
        )
        b = made(
            tmp_path / "b",
            {"conv": last, "flat": last.reshape(2, 54)},
            {"fc/kernel": other},
            gradients={"fc/kernel": other},
        )
        mapping = propose_mapping(a, b)
        (weight,) = mapping.weights.pairs
        assert (weight.split, weight.axes) == ((3, 3, 6, 7), (3, 2, 0, 1))
        # The tap after it has the same bytes as the one before, and so it needs no partner on either side.
        found = apart(a, b, mapping)
        assert found == dict.fromkeys(found, 0.0)
        assert ("gradients", "fc.weight") in found

    def test_the_same_values_in_an_order_that_nothing_explains(self, tmp_path):
        table = random(30, 4)
        a = made(tmp_path / "a", weights={"emb.weight": table})
        b = made(tmp_path / "b", weights={"emb.weight": table[::-1].copy()})
        found = propose_mapping(a, b).weights
        assert not found.pairs
        assert "in an order that no permutation of axes gives" in found.ambiguous[0].reason

    def test_a_counter_of_one_framework(self, tmp_path):
        a = made(tmp_path / "a", weights={"n.weight": random(4), "n.num_batches_tracked": np.array(3)})
        found = propose_mapping(a, made(tmp_path / "b", weights={"n.gamma": random(4)}))
        assert found.settled
        assert found.weights.left_out[0].name == "n.num_batches_tracked"


@settings(max_examples=40, deadline=None)
@given(
    kept=st.tuples(*[st.sets(st.integers(0, 11))] * 2),
    seed=st.integers(0, 1000),
    noise=st.sampled_from([0.0, 1e-6, 1e-3]),
)
def test_no_pair_is_wrong(tmp_path_factory, kept, seed, noise):
    """Whatever taps either side lacks: what is paired is the same tensor, or the reason says that the values differ."""
    folder = tmp_path_factory.mktemp("m")
    rng = np.random.default_rng(seed)
    shapes = [(4, 6), (4, 6), (4, 3), (4, 3, 5)]
    arrays = [rng.standard_normal(shapes[rng.integers(4)]) * rng.uniform(0.5, 2) for _ in range(12)]
    noisy = [array * (1 + noise * rng.standard_normal(array.shape)) for array in arrays]
    a = made(folder / "a", {f"left{i}": arrays[i] for i in range(12) if i not in kept[0]})
    b = made(folder / "b", {f"right{i}": noisy[i] for i in range(12) if i not in kept[1]})
    found = propose_mapping(a, b).taps
    wrong = [pair for pair in found.pairs if pair.source[4:] != pair.target[5:]]
    assert all("values differ" in pair.reason and pair.confidence < 0.99 for pair in wrong)
    right = {pair.source[4:] for pair in found.pairs}
    assert right >= {str(i) for i in range(12) if i not in kept[0] | kept[1]} - {
        one.source[4:] for one in found.ambiguous
    }


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


class TestFile:
    @settings(max_examples=60, deadline=None)
    @given(
        sources=st.lists(names, unique=True, min_size=4, max_size=9),
        targets=st.lists(names, unique=True, min_size=4, max_size=9),
    )
    def test_what_is_written_is_read(self, tmp_path_factory, sources, targets):
        matched = Matched(
            (
                Pairing(sources[0], targets[0], (1, 0), 0.5, "why"),
                Pairing(sources[1], targets[1], (0, 2, 1), split=(2, 3, 4)),
            ),
            (Ambiguous(sources[2], tuple(targets[2:3]), "who knows"),),
            (LeftOut("target", targets[3], "of no use"),),
            {"source": tuple(sources[3:]), "target": tuple(targets[4:])},
        )
        mapping = Correspondence('a "quoted" one', "b", matched, Matched(unmatched={"source": (), "target": ()}))
        path = write_mapping(mapping, tmp_path_factory.mktemp("f") / "m.toml")
        known = {"taps": {"source": sources, "target": targets}, "weights": {"source": [], "target": []}}
        assert read_mapping(path, known) == mapping

    @pytest.fixture
    def written(self, tmp_path):
        arrays = chain(3)
        a = made(tmp_path / "a", named(arrays, "a{}"), {"w": random(3, 4)})
        b = made(tmp_path / "b", named(arrays, "b{}"), {"v": random(3, 4)})
        mapping = propose_mapping(a, b)
        return write_mapping(mapping, tmp_path / "m.toml"), mapping, known_names(a, b)

    def test_a_proposal_is_read_as_it_was(self, written):
        path, mapping, known = written
        assert read_mapping(path, known) == mapping

    def test_it_is_not_replaced_unasked(self, written):
        path, mapping, _ = written
        with pytest.raises(UsageError, match="exists already"):
            write_mapping(mapping, path)
        write_mapping(replace(mapping, source="other"), path, overwrite=True)
        assert 'source = "other"' in path.read_text()

    def test_a_name_that_is_not_mentioned_is_unmatched(self, written):
        path, _, known = written
        head, first, *rest = path.read_text().split("\n[[taps.pair]]\n")
        assert 'source = "a0"' in first
        path.write_text("\n[[taps.pair]]\n".join([head, *rest]))
        found = read_mapping(path, known)
        assert found.taps.unmatched == {"source": ("a0",), "target": ("b0",)}
        assert not found.settled

    @pytest.mark.parametrize(
        ("old", "new", "says"),
        [
            ('source = "a1"', 'source = "zz"', "taps: zz: the source has no such tensor"),
            ('target = "b1"', 'target = "b0"', "taps: b0: stands twice on the side of the target"),
            ("axes = []", "axes = [0, 0]", "axes: wanted a permutation of"),
            ("axes = []", "axes = [true, false]", "axes: wanted a permutation of"),
            ("axes = []", "split = [0, 4]", "split: wanted sizes"),
            ("axes = []", "axis = []", "wanted source, target, axes"),
            ("confidence = ", 'confidence = "high" #', "confidence: wanted float"),
            ("[[taps.pair]]", "[[taps.pears]]", "wanted pair, ambiguous, left_out and unmatched"),
            ("[[taps.pair]]", "[[tops.pair]]", "wanted source, target, taps, weights"),
            ("[[weights.pair]]", left_out("left", "x"), "wanted side"),
            ("[[weights.pair]]", left_out("source", " "), "a reason"),
            ("[[weights.pair]]", "[weights.unmatched]\nsource = 3\n[[weights.pair]]", "lists of names"),
            ("[[taps.pair]]", "[[taps.pair", "is no TOML"),
        ],
    )  # fmt: skip
    def test_a_slip_is_one_line(self, written, old, new, says):
        path, _, known = written
        text = path.read_text()
        head, mark, body = text.partition("source = ")
        assert old in body
        path.write_text(head + mark + body.replace(old, new, 1))
        with pytest.raises((FormatError, MismatchError)) as caught:
            read_mapping(path, known)
        assert says in str(caught.value)
        assert str(path) in str(caught.value)

    def test_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(FormatError, match="cannot be read"):
            read_mapping(tmp_path / "none.toml", {})


class TestApplied:
    def test_a_word_in_common_is_no_pair(self, tmp_path):
        a = made(tmp_path / "a", {"x": random(3, 5), "norm": random(2, 7)})
        b = made(tmp_path / "b", {"y": random(3, 5), "norm": random(3, 3)})
        ours, theirs = mapped(a, b, propose_mapping(a, b))
        assert list(ours.summaries) == [("forward", "x"), ("forward", "norm")]
        assert list(theirs.summaries) == [("forward", "x"), ("forward", "norm (target)")]

    def test_what_is_left_out_is_on_neither_side(self, tmp_path):
        arrays = chain(3)
        a = made(tmp_path / "a", named(arrays, "a{}"))
        b = made(tmp_path / "b", {**named(arrays, "b{}"), "extra": random(3, 3)})
        mapping = leave_out(propose_mapping(a, b), "taps", "target", ["extra"], "only the port has it")
        ours, theirs = mapped(a, b, mapping)
        assert mapping.settled
        assert list(ours.summaries) == list(theirs.summaries)

    def test_leaving_out_a_partner_unmatches_the_other(self, tmp_path):
        arrays = chain(3)
        a, b = made(tmp_path / "a", named(arrays, "a{}")), made(tmp_path / "b", named(arrays, "b{}"))
        mapping = leave_out(propose_mapping(a, b), "taps", "source", ["a1"], "why not")
        assert mapping.taps.unmatched == {"source": (), "target": ("b1",)}
        with pytest.raises(UsageError, match="the source has no zz"):
            leave_out(mapping, "taps", "source", ["zz"], "why not")
        with pytest.raises(UsageError, match="wants a reason"):
            leave_out(mapping, "taps", "source", ["a0"], " ")

    def test_axes_that_do_not_fit(self, tmp_path):
        a = made(tmp_path / "a", {"x": random(3, 5)})
        b = made(tmp_path / "b", {"x": random(3, 5)})
        wrong = Matched((Pairing("x", "x", (1, 0)),))
        with pytest.raises(MismatchError, match=r"x \(3, 5\) does not become x \(3, 5\) by axes \[1, 0\]"):
            mapped(a, b, Correspondence("a", "b", wrong, Matched()))
        wrong = Matched((Pairing("x", "x", (1, 0), split=(4, 4)),))
        with pytest.raises(MismatchError, match="split"):
            mapped(a, b, Correspondence("a", "b", wrong, Matched()))

    def test_a_summary_cannot_be_permuted(self, tmp_path):
        x = random(3, 5)
        a = made(tmp_path / "a", {"x": x}, whole=False)
        b = made(tmp_path / "b", {"y": x.T.copy()}, whole=False)
        ours, theirs = mapped(a, b, propose_mapping(a, b))
        assert list(ours.summaries) == [("forward", "x")]
        assert list(theirs.summaries) == [("forward", "y (target, only summarised: its axes cannot be permuted)")]


class TestCommand:
    def test_map(self, tmp_path, port):
        arrays = chain(3)
        a = made(tmp_path / "a", named(arrays, "a{}"))
        b = made(tmp_path / "b", named(arrays[:2], "b{}"))
        ran = port("map", a.folder, b.folder, "-o", tmp_path / "m.toml")
        assert ran.code == 1  # a2 has no partner
        assert "UNMATCHED  a2 (source)" in ran.out
        mapping = propose_mapping(a, b)
        assert (tmp_path / "m.toml").read_text() == mapping_text(mapping)
        assert port("map", a.folder, b.folder, "-o", tmp_path / "m.toml").code == 2
        assert port("map", a.folder, a.folder, "--json").code == 0
        assert port("map", a.folder, tmp_path).code == 2

"""From a project to all that a run needs of it: samples to train on, validate by and replay, places to measure at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from intract_lsp.completion.prompt import FimFormat, encode_text
from intract_lsp.errors import TrainingError
from intract_lsp.evaluation.items import Item
from intract_lsp.index.grammars import Grammars
from intract_lsp.inference.healing import Vocabulary
from intract_lsp.inference.tokenizer import TextTokenizer
from intract_lsp.text import WINDOW, PositionEncoding, TextBuffer
from intract_lsp.training.corpus import Admitted, Piece, Refused
from intract_lsp.training.dedupe import Containment, NearDuplicates, first_of_each
from intract_lsp.training.drawing import BUDGETS, Drawer, Wanted
from intract_lsp.training.held_out import places
from intract_lsp.training.plan import LEAST_TOKENS, DataPlan, counts, require_code, require_samples
from intract_lsp.training.project import SUBMODULE, CutTree, cut_tree
from intract_lsp.training.replay import replayed
from intract_lsp.training.sample import Sample, SampleKind
from intract_lsp.training.samples import Cursor, Renderer, Retrieve
from intract_lsp.training.spec import RunSpec

MOST_HOLES = 8_000
MOST_HOLES_ON_CPU = 2_000
"""Samples with a hole: on the CPU some 700,000 tokens, more than it gets through in an hour."""

LINES_A_HOLE = 2
"""A smaller project has a hole for every so many lines."""

JUDGED = 100
"""Files whose loss under the base model is looked at, the largest first: what is no code is mostly large."""

EXCERPT = 1_600
"""Characters of a file that its loss is measured in."""

VALIDATION_SHARE = 0.8
"""Of a validation sample's budget before the cursor, as serving has it."""

Report = Callable[[str, float | None], None]
"""Is told what is being done, and which share of it is done."""

HELD_OUT_TWIN = "It says nearly the same as code that is kept for measuring, in {path}."
TWIN = "It says nearly the same as {path}."
STRANGE = "The model finds it too strange to learn from: a loss of more than {most:.1f} a token."


@dataclass(frozen=True)
class RunData:
    """What a run learns from and is measured at."""

    train: list[Sample] = field(repr=False)
    """In the order in which they are to be trained on."""
    validation: list[Sample] = field(repr=False)
    """Of the validation places, in no particular order: the first ones are as good as any."""
    validation_items: list[Item] = field(repr=False)
    test_items: list[Item] = field(repr=False)
    """Looked at once, by the gate."""
    replay: list[Sample] = field(repr=False)
    """Beside the others."""
    secrets: tuple[tuple[str, str], ...] = field(repr=False)
    """Path and text of the files in which secrets were found and left out, for ``leak.probes`` alone."""
    plan: DataPlan


def prepare(
    spec: RunSpec,
    tokenizer: TextTokenizer,
    fim: FimFormat,
    retrieve: Retrieve | None,
    loss_of: Callable[[str], float] | None,
    report: Report,
    tree: CutTree | None = None,
) -> RunData:
    """Return a run's data; the same for the same spec, tree and answers of the callables.

    ``fim`` is the format that is served. ``retrieve`` finds pieces of other files in an index of the tree, ``loss_of``
    gives the base model's mean negative log-likelihood a token of a text. ``tree`` is ``cut_tree(spec)`` unless given.
    Raises ``TrainingError`` where there is too little to learn from.
    """
    data, seed = spec.data, f"{spec.trainer.seed}"
    if not (data.use_fim or data.use_ntp):
        raise TrainingError("Both use_fim and use_ntp are off, so that there is nothing to learn: switch one on.")
    report("Reading the project", None)
    tree = cut_tree(spec) if tree is None else tree
    grammars = Grammars()
    vocabulary = Vocabulary(tokenizer.token_bytes())
    renderer = Renderer(fim, tokenizer, vocabulary.spells, data.context_length)

    report("Looking for duplicates", None)
    files, refused, twins = _without_twins(tree)
    if loss_of is not None:
        files, strange = _without_strange(files, loss_of, data.largest_base_loss, report)
        refused += strange
    pieces = [piece for file in files for piece in file.pieces]
    submodules = [each.path for each in tree.refused if each.reason == SUBMODULE]
    require_code(_tokens(pieces, tokenizer), len(files), spec.workspace, submodules)

    report("Choosing places to measure at", None)
    known = Containment(piece.text for piece in pieces)
    validation_items, test_items = places(tree.held_out, data.held_out, known.share, grammars)

    report("Drawing samples", None)
    wanted = _wanted(spec, pieces)
    shown = retrieve if data.context_share else None
    drawer = Drawer(pieces, renderer, grammars, seed, tree.recent, shown, twins)
    train = drawer.draw(wanted)
    require_samples(len(train), spec.workspace)
    count = round(len(train) * data.replay_share / max(1e-9, 1 - data.replay_share))
    replay = replayed(_replay(wanted, count), renderer, grammars, seed) if count else []

    report("Rendering the places", None)
    around = max((size for size in BUDGETS if size <= data.context_length), default=data.context_length)
    rendered = (validation_sample(item, renderer, around, shown) for item in validation_items)
    numbers, tokens = counts(train)
    plan = DataPlan(
        commit=tree.commit,
        head=tree.head,
        weak=tree.weak,
        held_out_commits=tree.held_out_commits,
        files=tuple((file.path, file.blob) for file in files),
        lines=sum(len(piece.lines) for piece in pieces),
        refused=(*tree.refused, *refused),
        uncounted=tree.uncounted,
        samples=numbers,
        tokens=tokens,
        supervised_tokens=sum(len(sample.ids) - sample.supervised_from for sample in train),
        with_context=sum(sample.with_context for sample in train),
        replayed=len(replay),
        validation_places=len(validation_items),
        test_places=len(test_items),
    )
    return RunData(
        train=train,
        validation=[sample for sample in rendered if sample is not None],
        validation_items=validation_items,
        test_items=test_items,
        replay=replay,
        secrets=tuple((file.path, file.text) for file in tree.files if file.has_secrets),
        plan=plan,
    )


def _without_twins(tree: CutTree) -> tuple[list[Admitted], list[Refused], Mapping[str, frozenset[str]]]:
    """Return the files that say something of their own, those that do not, and by path those that say the same."""
    seen = NearDuplicates()
    first_of_each([(file.path, file.text) for file in tree.new_files], seen)
    measured = {file.path for file in tree.new_files}
    found = first_of_each([(file.path, file.text) for file in tree.files], seen)
    refused = [
        Refused(path, (HELD_OUT_TWIN if twin in measured else TWIN).format(path=twin)) for path, twin in found.items()
    ]
    twins: dict[str, frozenset[str]] = {}
    for path, twin in found.items():
        twins[twin] = twins.get(twin, frozenset()) | {path}
    return [file for file in tree.files if file.path not in found], refused, twins


def _without_strange(
    files: Sequence[Admitted], loss_of: Callable[[str], float], most: float, report: Report
) -> tuple[list[Admitted], list[Refused]]:
    """Leave out what the base model can make nothing of: data, encodings, languages that it does not know."""
    judged = sorted(files, key=lambda file: (-len(file.text), file.path))[:JUDGED]
    strange: set[str] = set()
    for number, file in enumerate(judged):
        report("Judging files by the model's loss", number / len(judged))
        # Not a number, too, is no loss to learn from.
        if not loss_of(_excerpt(max(file.pieces, key=lambda piece: len(piece.text)))) <= most:
            strange.add(file.path)
    refused = [Refused(path, STRANGE.format(most=most)) for path in sorted(strange)]
    return [file for file in files if file.path not in strange], refused


def _excerpt(piece: Piece) -> str:
    """Return some lines from a piece's middle: its beginning may be a licence."""
    begin = max(0, (len(piece.text) - EXCERPT) // 2)
    start = piece.text.rfind("\n", 0, begin) + 1
    return piece.text[start : start + EXCERPT]


def _tokens(pieces: Sequence[Piece], tokenizer: TextTokenizer) -> int:
    """Count tokens of code, no further than has to be known."""
    tokens = 0
    for piece in pieces:
        tokens += len(encode_text(piece.text, tokenizer))
        if tokens >= LEAST_TOKENS:
            break
    return tokens


def _wanted(spec: RunSpec, pieces: Sequence[Piece]) -> Wanted:
    data, trainer = spec.data, spec.trainer
    lines = sum(sum(1 for line in piece.lines if line.strip()) for piece in pieces)
    most = MOST_HOLES_ON_CPU if trainer.device == "cpu" else MOST_HOLES
    most = min(most, trainer.steps * trainer.batch_size) if trainer.steps else most
    samples = min(most, max(1, lines // LINES_A_HOLE))
    share = 1.0 if not data.use_fim else data.ntp_share if data.use_ntp else 0.0
    return Wanted(
        holes=samples if share < 1 else 0,
        text_share=share,
        context_share=data.context_share,
        context_length=data.context_length,
        texts=samples,
    )


def _replay(wanted: Wanted, count: int) -> Wanted:
    """Return the mixture of the project's samples, without pieces of other files, for about ``count`` samples."""
    holes = max(1, round(count * (1 - wanted.text_share))) if wanted.holes else 0
    return replace(wanted, holes=holes, texts=count, context_share=0.0)


def validation_sample(item: Item, renderer: Renderer, around: int, retrieve: Retrieve | None) -> Sample | None:
    """Return the sample of a held-out place, as it is served; of its line alone where its block is too long."""
    cursor = cursor_of(item)
    chunks = cursor.pieces(retrieve, renderer.context_tokens) if retrieve is not None else ()
    line_kind = SampleKind.LINE if item.trigger == "newline" else SampleKind.TYPED
    kind = SampleKind.BLOCK if "\n" in cursor.middle else line_kind
    sample = renderer.hole(cursor, kind, around, VALIDATION_SHARE, chunks)
    if sample is None and kind is SampleKind.BLOCK:
        line, _, rest = cursor.middle.partition("\n")
        shorter = replace(cursor, middle=line, suffix=f"\n{rest}{cursor.suffix}")
        return renderer.hole(shorter, line_kind, around, VALIDATION_SHARE, chunks)
    return sample


def cursor_of(item: Item) -> Cursor:
    """Return the cursor of an evaluation item, with as much of the document around it as serving looks at."""
    before = TextBuffer(item.prefix.replace("\r\n", "\n"), PositionEncoding.UTF32)
    last = before.line_count - 1
    prefix = before.before(before.place(last, len(before.line(last))), WINDOW)
    suffix = item.suffix.replace("\r\n", "\n")
    middle = item.truth_block.replace("\r\n", "\n")
    return Cursor(item.path, "", item.language_id, prefix, suffix[:WINDOW], middle)

"""Pre-training data: text to masked-LM TFRecords, as BERT's create_pretraining_data makes them.

By default each document draws from a generator of its own, seeded by the seed, the round and the document's number, and
a random next sentence comes from the documents around it. So documents go through in blocks, memory stays small,
all cores work, and the bytes are the same for any number of workers. With `compat` one generator draws for the whole
corpus in the order of the original, which gives its very instances, in one process that holds everything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from random import Random
from typing import Any

from porting.checkpoint.output import Output
from porting.data import documents as corpus
from porting.data.instances import Document, Instance, Plan, Special, document_instances
from porting.data.masked_records import instance_encoder, schema_of
from porting.data.pool import cores, in_order
from porting.data.schema import account_path
from porting.data.sinks import require_schema, write_schema
from porting.data.tokenizing import Tokenizer, Tokens
from porting.data.vocabulary import read_vocabulary
from porting.errors import FormatError, UsageError
from porting.version import VERSION

BLOCK = 1 << 20
"""Characters of a block at least. With ten rounds its records take 30 MB or so."""

NEIGHBOURS = 16
"""Documents of a block at least, so that a random next sentence has where to come from."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker has to know."""

    tokens: Tokens
    plan: Plan
    seed: int


@dataclass(frozen=True, slots=True)
class Block:
    """Some documents. first: the number of the first one. upto: bytes of all files that are read when it is done."""

    first: int
    documents: list[corpus.Document]
    upto: int


@dataclass(slots=True)
class Count:
    """What came of the documents. empty: those without a token. random_next: instances with a random second text."""

    documents: int = 0
    empty: int = 0
    sentences: int = 0
    instances: int = 0
    random_next: int = 0
    masked: int = 0

    def add(self, other: Count) -> None:
        """Take in what came of other documents."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


@dataclass(frozen=True, slots=True)
class Made:
    """The framed records of a block, in their order."""

    records: list[bytes]
    count: Count
    upto: int


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for. compat: the instances of BERT's own script."""

    tokens: Tokens
    plan: Plan = field(default_factory=Plan)
    seed: int = 12345
    compat: bool = False
    workers: int | None = None
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class Account:
    """What was made. outputs: instance i went to output i modulo their number."""

    sources: tuple[Path, ...]
    outputs: tuple[Path, ...]
    request: Request
    count: Count

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "tool": f"porting-kit {VERSION}",
            "sources": [str(path) for path in self.sources],
            "outputs": [str(path) for path in self.outputs],
            "compat": self.request.compat,
            "seed": self.request.seed,
            **asdict(self.request.plan),
            **self.request.tokens.account(),
            **asdict(self.count),
        }

    def lines(self) -> list[str]:
        """In words."""
        c = self.count
        where = ", ".join(str(path) for path in self.outputs)
        masks = (
            f"{c.masked / c.instances:.1f} masks each, {c.random_next / c.instances:.0%} with a random next sentence"
        )
        lines = [f"{where}: {c.instances} instances of {c.documents} documents, {c.sentences} sentences", f"  {masks}"]
        return [*lines, f"  {c.empty} documents had no token and were left out"] if c.empty else lines


def _tokenized(documents: Sequence[corpus.Document], tokenizer: Tokenizer, count: Count) -> list[tuple[int, Document]]:
    """The documents that have tokens, each with its place."""
    found = []
    for place, document in enumerate(documents):
        sentences = [ids for ids in map(tokenizer.ids, document) if ids]
        count.documents += bool(sentences)
        count.empty += not sentences
        count.sentences += len(sentences)
        if sentences:
            found.append((place, sentences))
    return found


def _generator(*seeds: int | str) -> Random:
    """A generator of its own; Python derives its state from a text by SHA-512, the same in every version."""
    return Random("/".join(map(str, seeds)))  # noqa: S311 - masks are no secrets


def block_maker(job: Job) -> Callable[[Block], Made]:
    """The worker's function: one block of documents to records."""
    tokenizer, special = job.tokens.tokenizer(), Special(read_vocabulary(job.tokens.path))
    encode = instance_encoder(job.tokens, job.plan)

    def make(block: Block) -> Made:
        count = Count()
        placed = _tokenized(block.documents, tokenizer, count)
        documents = [document for _, document in placed]
        found: list[Instance] = []
        for turn in range(job.plan.dupe_factor):
            for index, (place, _) in enumerate(placed):
                random = _generator(job.seed, turn, block.first + place)
                found += document_instances(documents, index, job.plan, special, random)
        _generator(job.seed, "order", block.first).shuffle(found)
        return Made([encode(instance) for instance in found], _counted(count, found), block.upto)

    return make


def _counted(count: Count, instances: Sequence[Instance]) -> Count:
    count.instances = len(instances)
    count.random_next = sum(instance.random_next for instance in instances)
    count.masked = sum(len(instance.positions) for instance in instances)
    return count


def blocks(read: Iterator[corpus.Read]) -> Iterator[Block]:
    """Documents in blocks that depend on the text alone. What is left at the end joins the last block."""
    number = size = upto = 0
    ready: Block | None = None
    waiting: list[corpus.Document] = []
    for document in read:
        waiting.append(document.sentences)
        size += sum(map(len, document.sentences))
        upto = document.upto
        if size >= BLOCK and len(waiting) >= NEIGHBOURS:
            if ready is not None:
                yield ready
            ready = Block(number, waiting, upto)
            number, size, waiting = number + len(waiting), 0, []
    if ready is not None and len(waiting) < NEIGHBOURS:
        yield Block(ready.first, ready.documents + waiting, upto)
        return
    if ready is not None:
        yield ready
    if waiting:
        yield Block(number, waiting, upto)


def _in_blocks(files: Sequence[Path], request: Request) -> Generator[Made, None, None]:
    size = sum(path.stat().st_size for path in files)
    workers = request.workers or min(cores(), 1 + size // BLOCK)
    job = Job(request.tokens, request.plan, request.seed)
    made = in_order("porting.data.pretraining:block_maker", job, blocks(corpus.documents(files)), workers=workers)
    with closing(made) as results:
        yield from results


def _as_the_original(files: Sequence[Path], request: Request) -> Generator[Made, None, None]:
    """One generator for everything: the documents' order, every draw, the instances' order."""
    count, random = Count(), Random(request.seed)  # noqa: S311 - masks are no secrets
    tokenizer, special = request.tokens.tokenizer(), Special(read_vocabulary(request.tokens.path))
    read = [document.sentences for document in corpus.documents(files)]
    documents = [document for _, document in _tokenized(read, tokenizer, count)]
    random.shuffle(documents)
    found: list[Instance] = []
    for _ in range(request.plan.dupe_factor):
        for index in range(len(documents)):
            found += document_instances(documents, index, request.plan, special, random)
    random.shuffle(found)
    encode = instance_encoder(request.tokens, request.plan)
    yield Made([encode(instance) for instance in found], _counted(count, found), sum(p.stat().st_size for p in files))


def make_pretraining_data(
    sources: Sequence[Path],
    outputs: Sequence[Path],
    request: Request,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Account:
    """Write the instances of text files and folders, in turn to each output, with an account beside each.

    progress: called with the bytes read and all bytes.
    Raises: UsageError, FormatError; then nothing is left under any of the outputs' names.
    """
    if request.tokens.style != "bert":
        raise UsageError("--vocab: masked-LM data wants BERT's vocab.txt")
    folders = {path.parent for path in outputs}
    if len(folders) != 1 or len(set(outputs)) < len(outputs):
        raise UsageError("-o: wanted different names in one folder")
    files, folder, schema = corpus.corpus_files(sources), folders.pop(), schema_of(request.plan)
    require_schema(folder, schema, overwrite=request.overwrite)
    names = [path.name for path in outputs]
    accounts = [account_path(path).name for path in outputs]
    total, count, ends = sum(path.stat().st_size for path in files), Count(), [0] * len(names)
    with ExitStack() as stack:
        output = stack.enter_context(Output(folder, names, companions=accounts, overwrite=request.overwrite))
        made = _as_the_original(files, request) if request.compat else _in_blocks(files, request)
        for part in stack.enter_context(closing(made)):
            _distribute(output, part.records, count.instances, ends)
            count.add(part.count)
            if progress is not None:
                progress(part.upto, total)
        if not count.instances:
            raise FormatError(files[0], "", f"no text in {len(files)} files")
        account = Account(tuple(files), tuple(outputs), request, count)
        text = (json.dumps(account.to_json(), indent=1, ensure_ascii=False) + "\n").encode()
        for place in range(len(names)):
            output.write(len(names) + place, 0, text)
        write_schema(folder, schema)
        output.commit()
    return account


def _distribute(output: Output, records: Sequence[bytes], before: int, ends: list[int]) -> None:
    """Record i of all goes to file i modulo the number of files."""
    for place in range(len(ends)):
        data = b"".join(records[(place - before) % len(ends) :: len(ends)])
        output.write(place, ends[place], data)
        ends[place] += len(data)

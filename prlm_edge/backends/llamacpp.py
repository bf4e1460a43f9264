"""The llama.cpp backend: a GGUF model on this machine's CPU.

One request is decoded in the context its prompt was evaluated in (`stream`), several at a time in a batch
(`stream_many`). What prompts share stands evaluated in that context or in a `PrefixStore`.

Deterministic for a given seed and prompt, whatever was cached and whatever else is in the batch.
Not here: the two phases (`decoding.py`), llama.cpp's calls (`llama_raw.py`).
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

from prlm_edge.backends import llama_lib
from prlm_edge.backends.chat_template import CHATML, ChatTemplate, append, prepare
from prlm_edge.backends.decoding import Cancelled, Decoding
from prlm_edge.backends.llama_adapter import Adapter
from prlm_edge.backends.llama_batch import Batch
from prlm_edge.backends.llama_cells import Cells
from prlm_edge.backends.llama_context import Context
from prlm_edge.backends.llama_prefixes import Prefixes
from prlm_edge.backends.llama_raw import Threads, Weights
from prlm_edge.backends.llama_sampler import Sampler
from prlm_edge.backends.llama_vocab import Vocab
from prlm_edge.backends.prefix_store import PrefixStore
from prlm_edge.backends.prompt_tokens import TokenizedPrompt, tokenize
from prlm_edge.cpu import default_threads
from prlm_edge.errors import ModelError, PrlmError, UsageError
from prlm_edge.reasoning import ANSWER_OPEN, THINK_OPEN
from prlm_edge.storage import cache_dir
from prlm_edge.types import Cancel, Completion, Event, ModelInfo, Request, Span, Turn, Usage

# A step of a smaller model is over sooner than sleeping threads wake: 47 tokens/s on one thread against 20 on two. Two
# spinning threads do 74, but 25 beside one busy process, where one thread stays at 48 (SmolLM2-135M, 2 cores).
ONE_THREAD_BYTES = 256 << 20
REASONS = "prlm.reasons"  # metadata of a model file: true where training taught the model to reason
_SMALLEST_CONTEXT = 512
_POLL_S = 0.05
BATCH_BYTES = 1 << 30  # of a batch's cache; fewer requests run at a time where that is too little
_CANCELLED = Event("done", completion=Completion("cancelled", Usage()))


class LlamaCpp:
    """A GGUF model. One stream runs at a time; those of other threads wait for it.

    Args:
        path: The GGUF file; it is mapped, not read.
        n_ctx: Upper bound of the context in tokens; 0 for the model's own. Memory is taken as needed.
        n_threads: Threads; 0 for as many as this process may use, but one to decode with a model under
            `ONE_THREAD_BYTES`. After long prompts another number decodes otherwise in the last bits.
        sha256: The file's hash where known, for the record and for the cache on disk.
        adapter: A LoRA adapter (GGUF) of this model to apply; see `set_adapter`.
        prefix_cache: Where evaluated prompt prefixes are kept: "off", "memory" or "disk".
        prefix_cache_mb: MiB they may take on disk.

    Raises:
        UsageError: No such file.
        ModelError: Not a GGUF file, damaged, or of an unsupported architecture.
        MissingError: llama-cpp-python isn't installed.
    """

    reports_logprobs = True

    def __init__(
        self,
        path: str | Path,
        *,
        n_ctx: int = 0,
        n_threads: int = 0,
        sha256: str = "",
        adapter: str | Path | None = None,
        prefix_cache: str = "memory",
        prefix_cache_mb: int = 1024,
    ) -> None:
        self._path = Path(path)
        _check_file(self._path)
        self._lib = lib = llama_lib.load()
        llama_lib.last_errors.clear()
        self._context: Context | None = None
        self._adapter: Adapter | None = None
        self._lock = threading.Lock()  # held by the running stream
        self._owner = 0  # the thread that began it
        self._closing = False
        preparing = threading.Thread(target=prepare)
        preparing.start()
        self._model = lib.llama_model_load_from_file(str(self._path).encode(), lib.llama_model_default_params())
        preparing.join()
        if not self._model:
            raise ModelError(
                f"{self._path}: llama.cpp can't load it: {'; '.join(llama_lib.last_errors) or 'no reason given'}",
                "pull it again (`prlm-edge model pull NAME`) or choose another file",
            )
        try:
            self._vocab = Vocab(lib, self._model)
            self._template = self._chat_template()
            self._adapter = Adapter(lib, self._model, Path(adapter)) if adapter else None
        except PrlmError:
            self.close()
            raise
        self._cache = prefix_cache, prefix_cache_mb
        trained = int(lib.llama_model_n_ctx_train(self._model))
        self.info = ModelInfo(self._path.stem, sha256, min(n_ctx, trained) if n_ctx else trained)
        self._describe()
        all_threads = n_threads or default_threads()
        small = self._path.stat().st_size < ONE_THREAD_BYTES
        self._threads = Threads(all_threads, n_threads or (1 if small else all_threads))

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the last request, such as why its prefix could not be kept."""
        files = self._prefixes.store.files if self._prefixes else None
        return (files.problem,) if files is not None and files.problem else ()

    def set_adapter(self, path: str | Path | None) -> None:
        """Apply another LoRA adapter (GGUF), or none, from the next request on; the model stays loaded.

        Raises:
            UsageError: No such file, or a stream of this thread is still open.
            ModelError: Not an adapter of this model; the one before stays.
        """
        self._acquire(Cancel())
        try:
            self._open_vocab  # noqa: B018 - raises where the model is closed
            new = Adapter(self._lib, self._model, Path(path)) if path else None
            if self._context:
                self._context.close()
                self._context = None
            if self._adapter:
                self._adapter.close()
            self._adapter = new
            self._describe()
        finally:
            self._release()

    def close(self) -> None:
        """Free context and model, at once or when the running stream ends. Idempotent."""
        self._closing = True
        if self._lock.acquire(blocking=False):
            try:
                self._free()
            finally:
                self._lock.release()

    def _free(self) -> None:
        if self._context:
            self._context.close()
            self._context = None
        if self._model:
            if self._adapter:
                self._adapter.close()
            self._lib.llama_model_free(self._model)
            self._model = None

    def count(self, text: str) -> int:
        """Tokens of an untrusted text."""
        return self._open_vocab.count(text)

    def tokenize(self, text: str) -> list[int]:
        """Token ids of an untrusted text: nothing in it is a control token."""
        return self._open_vocab.encode_text(text)

    def prompt_ids(self, request: Request) -> list[int]:
        """Token ids of a request's whole prompt, the opening tag of its first phase included."""
        return list(self._prompt(request).tokens)

    def truncate(self, text: str, n_tokens: int) -> str:
        """The longest prefix of `text` of at most `n_tokens` tokens."""
        return self._open_vocab.truncate(text, n_tokens)

    def count_turns(self, turns: Sequence[Turn]) -> int:
        """Tokens of the whole prompt, chat template included, opening tag excluded."""
        return len(self._open_vocab.encode(self._template.render(turns)))

    def stream(self, request: Request, cancel: Cancel | None = None) -> Iterator[Event]:
        """Yield "prefill", "reasoning" and "answer" events, then "done" with a Completion.

        Raises:
            ModelError: The model is closed, or llama.cpp failed.
            UsageError: Prompt and budgets don't fit into the model's context, or a stream of this thread is still open.
        """
        cancel = cancel or Cancel()
        if not self._acquire(cancel):
            yield _CANCELLED
            return
        try:
            yield from self._alone(self._decoding(request), cancel)
        finally:
            self._release()

    def stream_many(self, requests: Sequence[Request], cancel: Cancel | None = None) -> Iterator[tuple[int, Event]]:
        """See `Backend.stream_many`: up to `llama_batch.MAX_SLOTS` at a time; raises as `stream` does."""
        cancel = cancel or Cancel()
        if len(requests) == 1:  # alone is quicker: its state needn't move
            yield from ((0, event) for event in self.stream(requests[0], cancel))
            return
        if not self._acquire(cancel):
            yield from ((place, _CANCELLED) for place in range(len(requests)))
            return
        try:
            batch = Batch(
                len(requests),
                prepare=lambda place: self._decoding(requests[place]),
                evaluate=lambda sequence: self._evaluate(sequence, cancel),
                make_cells=lambda n_cells, n_slots: Cells(self._lib, self._weights, n_cells, n_slots, self._threads),
                room=lambda sequence: Decoding.room(self._vocab, sequence.request),
                max_cells=BATCH_BYTES // self._cell_bytes,
            )
            yield from batch.run(cancel)
        finally:
            self._release()

    def _alone(self, sequence: Decoding, cancel: Cancel) -> Iterator[Event]:
        try:
            context, events = self._evaluate(sequence, cancel)
            yield from events
            yield from sequence.draw(context.raw)
            while not sequence.finished:
                if cancel.cancelled:
                    raise Cancelled
                context.roll_back(sequence.n_kept)
                context.append(sequence.pending)
                sequence.n_tokens = len(context.tokens)
                yield from sequence.draw(context.raw)
            yield sequence.done()
        except Cancelled:
            yield sequence.done(cancelled=True)
        finally:
            sequence.close()

    def _decoding(self, request: Request) -> Decoding:
        vocab, prompt = self._open_vocab, self._prompt(request)
        need = len(prompt.tokens) + Decoding.room(vocab, request)
        if need > self.info.n_ctx_max:
            raise UsageError(
                f"{need} tokens of prompt and budgets exceed the context of {self.info.n_ctx_max}",
                "lower -k, --item-words, --reasoning-tokens or --answer-tokens",
            )
        return Decoding(vocab, request, prompt, Sampler(self._lib, request.sampling, vocab.n_tokens))

    def _prompt(self, request: Request) -> TokenizedPrompt:
        spans = self._template.render(request.turns)
        append(spans, Span(THINK_OPEN if request.reasoning_tokens else ANSWER_OPEN, trusted=True))
        return tokenize(self._open_vocab, spans, request.turns)

    def _evaluate(self, sequence: Decoding, cancel: Cancel) -> tuple[Context, Iterator[Event]]:
        """The context in which the sequence's prompt gets evaluated while the events are read."""
        prompt = sequence.prompt
        context = self._context_for(len(prompt.tokens) + Decoding.room(self._vocab, sequence.request))

        def events() -> Iterator[Event]:
            sequence.started()
            if self._prefixes:
                self._prefixes.fetch(context, prompt)
            sequence.n_cached = context.begin(prompt)
            for done in context.evaluate(cancel):
                yield Event("prefill", done=done, total=len(prompt.tokens))
            sequence.evaluated()

        return context, events()

    def _context_for(self, n_tokens: int) -> Context:
        """The prompt context, grown to at least `n_tokens` in powers of two."""
        if self._context and self._context.n_ctx >= n_tokens:
            return self._context
        size = _SMALLEST_CONTEXT
        while size < n_tokens:
            size *= 2
        if self._context:
            if self._prefixes:
                self._prefixes.keep(self._context)
            self._context.close()
            self._context = None
        self._context = Context(self._lib, self._weights, min(size, self.info.n_ctx_max), self._threads)
        return self._context

    def _acquire(self, cancel: Cancel) -> bool:
        """Wait for the running stream to end; False where `cancel` was set meanwhile."""
        while not self._lock.acquire(timeout=_POLL_S):
            if self._owner == threading.get_ident():  # it would wait for itself
                raise UsageError("another stream of this thread is still open", "finish it or close() it first")
            if cancel.cancelled:
                return False
        self._owner = threading.get_ident()
        return True

    def _release(self) -> None:
        self._owner = 0
        try:
            if self._closing:
                self._free()
            elif self._prefixes and self._context:
                self._prefixes.finished(self._context)
        finally:
            self._lock.release()

    @property
    def _weights(self) -> Weights:
        return Weights(self._model, self._adapter.pointer if self._adapter else None)

    def _describe(self) -> None:
        """What follows from the model and the adapter: whether they reason, and whose evaluated prompts are kept."""
        reasons = self._adapter.says(REASONS) == "true" if self._adapter else self._reasons()
        self.info = replace(self.info, reasons=reasons, adapter=self._adapter.path.stem if self._adapter else "")
        self._prefixes = self._open_prefixes(*self._cache, self.info.sha256)

    def _open_prefixes(self, where: str, disk_mb: int, sha256: str) -> Prefixes | None:
        if where == "off":
            return None
        status = self._path.stat()
        model = sha256 or f"{self._path.resolve()} {status.st_size} {status.st_mtime_ns}"
        adapter = self._adapter.key if self._adapter else ""
        build = sorted((f.name, f.stat().st_size) for f in (Path(str(self._lib.__file__)).parent / "lib").iterdir())
        key = blake2b(f"{model}\n{adapter}\n{build}".encode(), digest_size=16).hexdigest()  # the digests say the rest
        folder = cache_dir() / "prefix" if where == "disk" else None
        return Prefixes(PrefixStore(key, folder=folder, disk_bytes=disk_mb << 20), lasting=folder is not None)

    @property
    def _open_vocab(self) -> Vocab:
        if self._closing:  # a freed model would crash the process, not raise
            raise ModelError("the model is closed", "open a new Writer")
        return self._vocab

    @property
    def _cell_bytes(self) -> int:
        """Memory of one token in the cache, keys and values in 16 bits."""
        lib, model = self._lib, self._model
        head = lib.llama_model_n_embd(model) // max(lib.llama_model_n_head(model), 1)
        return 4 * max(int(lib.llama_model_n_layer(model) * lib.llama_model_n_head_kv(model) * head), 1)

    def _reasons(self) -> bool:
        value = ctypes.create_string_buffer(8)
        self._lib.llama_model_meta_val_str(self._model, REASONS.encode(), value, len(value))
        return value.value == b"true"

    def _chat_template(self) -> ChatTemplate:
        source = self._lib.llama_model_chat_template(self._model, None)
        text = source.decode("utf-8", "replace") if source else CHATML
        return ChatTemplate(text, self._vocab.text_of("bos"), self._vocab.text_of("eos"))


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise UsageError(f"{path} is a folder, not a GGUF file", "name the .gguf file in it")
    try:
        with path.open("rb") as stream:
            magic = stream.read(4)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such model file", "`prlm-edge model list` names the models there are") from None
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}", "check the file's permissions") from None
    if magic != b"GGUF":
        raise ModelError(f"{path} is not a GGUF file", "choose another, or pull one: `prlm-edge model pull default`")

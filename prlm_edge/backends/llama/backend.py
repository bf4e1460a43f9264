"""The llama.cpp backend: a GGUF model on this machine's CPU.

The same prompt and seed give the same answer, whatever was cached and whatever else is in the batch.
"""

from __future__ import annotations

import ctypes
from dataclasses import replace
from pathlib import Path

from prlm_edge.backends.engine.batch import MAX_SLOTS
from prlm_edge.backends.engine.chat_template import ChatTemplate, template_for
from prlm_edge.backends.engine.local import Local
from prlm_edge.backends.engine.prefixes import file_key, open_prefixes
from prlm_edge.backends.engine.prompt_tokens import CHUNK, PromptTokenizer
from prlm_edge.backends.llama import lib as llama_lib
from prlm_edge.backends.llama.adapter import Adapter
from prlm_edge.backends.llama.sampler import LlamaSampler
from prlm_edge.backends.llama.slots import BatchSlots, LlamaSlots, Threads, Weights
from prlm_edge.backends.llama.vocab import LlamaVocab
from prlm_edge.cpu import threads_for
from prlm_edge.errors import ModelError, PrlmError, UsageError
from prlm_edge.gguf.header import ADAPTER, REASONS, TASKS
from prlm_edge.types import ModelInfo, Sampling

# A step of a smaller model is over sooner than sleeping threads wake: 47 tokens/s on one thread against 20 on two. Two
# spinning threads do 74, but 25 alongside one busy process, where one thread stays at 48 (SmolLM2-135M, 2 cores).
ONE_THREAD_BYTES = 256 << 20


class LlamaCpp(Local):
    """A GGUF model. One stream runs at a time; those of other threads wait for it.

    Args:
        path: The GGUF file; it is mapped, not read.
        n_ctx: Upper bound of the context in tokens; 0 for the model's own. Memory is taken as needed.
        n_threads: Threads, never more than this process has cores; 0 for one a physical core, but one to decode with a
            model under `ONE_THREAD_BYTES`. After long prompts another number decodes otherwise in the last bits.
        sha256: The file's hash where known, for the record and for the cache on disk.
        adapter: A LoRA adapter (GGUF) of this model to apply; see `set_adapter`.
        prefix_cache: Where evaluated prompt prefixes are kept: "off", "memory" or "disk".
        prefix_cache_mb: MiB they may take on disk.
        note: What the user should know of it with each request; "" for nothing.
        max_slots: Requests decoded at a time; above `MAX_SLOTS` answers need not equal those of smaller batches to the
            last bit, and it pays where groups of requests share their prompts.

    Raises:
        UsageError: No such file.
        ModelError: Not a GGUF file, damaged, or of an unsupported architecture.
        MissingError: llama-cpp-python isn't installed.
    """

    _shares_cells = True

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
        note: str = "",
        max_slots: int = MAX_SLOTS,
    ) -> None:
        self._path = Path(path)
        _check_file(self._path)
        self._lib = lib = llama_lib.load()
        super().__init__()
        self._note = note
        self._adapter: Adapter | None = None
        advice = "pull it again (`prlm-edge model pull NAME`) or choose another file"
        self._model = llama_lib.load_model(self._path, advice)
        try:
            self._vocab: LlamaVocab = LlamaVocab(lib, self._model)
            self._prompts = PromptTokenizer(self._vocab, self._chat_template())
            self._adapter = Adapter(lib, self._model, Path(adapter)) if adapter else None
        except PrlmError:
            self.close()
            raise
        self._cache = prefix_cache, prefix_cache_mb
        forgets_all = lib.llama_model_is_recurrent(self._model) or lib.llama_model_is_hybrid(self._model)
        self._max_slots = 1 if forgets_all else max_slots  # what such a model evaluates again, it shares no longer
        trained = int(lib.llama_model_n_ctx_train(self._model))
        n_parameters = int(lib.llama_model_n_params(self._model))
        n_ctx_max = min(n_ctx, trained) if n_ctx else trained
        self.info = ModelInfo(self._path.stem, sha256, n_ctx_max, n_parameters=n_parameters)
        self._describe()
        n_threads = n_threads and threads_for(n_threads)
        all_threads = threads_for(n_threads)
        small = self._path.stat().st_size < ONE_THREAD_BYTES
        self._threads = Threads(all_threads, n_threads or (1 if small else all_threads))
        head = lib.llama_model_n_embd(self._model) // max(lib.llama_model_n_head(self._model), 1)
        n_values = lib.llama_model_n_layer(self._model) * lib.llama_model_n_head_kv(self._model) * head
        self._cell_bytes = 4 * max(n_values, 1)  # keys and values, in 16 bits

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the last request."""
        return (*super().notes, *filter(None, [self._note]))

    def set_adapter(self, path: str | Path | None) -> None:
        """Apply another LoRA adapter (GGUF), or none, from the next request on; the model stays loaded.

        One that is merged into the file stays there.

        Raises:
            UsageError: No such file, or a stream of this thread is still open.
            ModelError: Not an adapter of this model; the one before stays.
        """
        self._acquire()
        try:
            self._open_prompts  # noqa: B018 - raises where the model is closed
            new = Adapter(self._lib, self._model, Path(path)) if path else None
            self._drop_context()
            if self._adapter:
                self._adapter.close()
            self._adapter = new
            self._describe()
        finally:
            self._release()

    def _free_model(self) -> None:
        if self._model:
            if self._adapter:
                self._adapter.close()
            self._lib.llama_model_free(self._model)
            self._model = None

    def _prompt_slots(self, n_cells: int) -> LlamaSlots:
        return LlamaSlots(self._lib, self._weights, n_cells, self._threads, n_batch=CHUNK)

    def _batch_slots(self, n_slots: int, n_cells: int) -> BatchSlots:
        return BatchSlots(self._lib, self._weights, n_cells, self._threads, n_slots)

    def _make_sampler(self, sampling: Sampling) -> LlamaSampler:
        return LlamaSampler(self._lib, sampling, self._vocab.n_tokens)

    @property
    def _weights(self) -> Weights:
        return Weights(self._model, self._adapter.pointer if self._adapter else None)

    def _describe(self) -> None:
        """Set what depends on model and adapter: what they were trained for, and the prompt prefixes kept for them."""
        says = self._adapter.says if self._adapter else self._says
        name = self._adapter.path.stem if self._adapter else self._says(ADAPTER)
        tasks = tuple(filter(None, says(TASKS).split(",")))
        self.info = replace(self.info, reasons=says(REASONS) == "true", tasks=tasks, adapter=name)
        self._prefixes = open_prefixes(*self._cache, *self._identity())

    def _identity(self) -> tuple[str, str, str]:
        """What an evaluated prompt depends on besides its tokens: model, adapter and llama.cpp's build."""
        adapter = self._adapter.key if self._adapter else ""
        return self.info.sha256 or file_key(self._path), adapter, llama_lib.build()

    def _says(self, key: str) -> str:
        """A value of the model's metadata as text; "" where there is none."""
        value = ctypes.create_string_buffer(256)
        n = self._lib.llama_model_meta_val_str(self._model, key.encode(), value, len(value))
        return value.value.decode("utf-8", "replace") if n >= 0 else ""

    def _chat_template(self) -> ChatTemplate:
        source = self._lib.llama_model_chat_template(self._model, None)
        text = source.decode("utf-8", "replace") if source else template_for(self._vocab.is_token)
        return ChatTemplate(text, self._vocab.text_of("bos"), self._vocab.text_of("eos"), kept=True)


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

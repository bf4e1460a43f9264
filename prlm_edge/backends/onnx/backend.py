"""The ONNX backend: a language model that `prlm-edge export onnx` wrote, run by ONNX Runtime on this machine's CPU.

The same prompt and seed give the same answer, whatever was cached: prompts are evaluated in the same calls. In a batch
the last bits of logits may differ from those of a request alone. LoRA adapters have to be merged before the export.
"""

from __future__ import annotations

from pathlib import Path

from prlm_edge.backends.engine.chat_template import ChatTemplate, template_for
from prlm_edge.backends.engine.local import Local
from prlm_edge.backends.engine.prefixes import file_key, open_prefixes
from prlm_edge.backends.engine.prompt_tokens import PromptTokenizer
from prlm_edge.backends.onnx import folder as onnx_folder
from prlm_edge.backends.onnx.sampler import OnnxSampler
from prlm_edge.backends.onnx.session import Session
from prlm_edge.backends.onnx.slots import OnnxSlots
from prlm_edge.backends.onnx.vocab import FastVocab
from prlm_edge.cpu import threads_for
from prlm_edge.types import ModelInfo, Sampling


class Onnx(Local):
    """A language model in ONNX format. One stream runs at a time; those of other threads wait for it.

    Args:
        folder: What `prlm-edge export onnx` (or onnxruntime-genai's builder, for the CPU) wrote.
        n_ctx: Upper bound of the context in tokens; 0 for the model's own. Memory is taken as needed.
        n_threads: Threads; 0 for one a physical core; never more than this process has cores.
        prefix_cache: Where evaluated prompt prefixes are kept: "off", "memory" or "disk".
        prefix_cache_mb: MiB they may take on disk.

    Raises:
        UsageError: No such folder, or no model in it.
        ModelError: It is damaged, or no language model with a cache.
        MissingError: onnxruntime or tokenizers isn't installed.
    """

    _shares_cells = False

    def __init__(
        self,
        folder: str | Path,
        *,
        n_ctx: int = 0,
        n_threads: int = 0,
        prefix_cache: str = "memory",
        prefix_cache_mb: int = 1024,
    ) -> None:
        super().__init__()
        model = onnx_folder.read(Path(folder))
        tokenizer = onnx_folder.load_tokenizer(model.path)
        self._session: Session | None = Session(model, threads_for(n_threads))
        self._vocab = FastVocab(tokenizer, model.ends, model.bos, model.n_vocab)
        source = model.template or template_for(self._vocab.is_token)
        template = ChatTemplate(source, model.names["bos"], model.names["eos"], kept=True)
        self._prompts = PromptTokenizer(self._vocab, template)
        n_ctx = min(n_ctx, model.n_ctx) if n_ctx else model.n_ctx
        self.info = ModelInfo(
            model.path.resolve().name,
            model.sha256,
            n_ctx,
            model.reasons,
            model.adapter,
            model.tasks,
            model.n_parameters,
        )
        self._cell_bytes = self._session.cell_bytes
        self._prefixes = open_prefixes(prefix_cache, prefix_cache_mb, *self._identity(model.file))

    def _identity(self, file: Path) -> tuple[str, ...]:
        """What an evaluated prompt depends on besides its tokens: the model, and ONNX Runtime."""
        import onnxruntime

        return "onnx", self.info.sha256 or file_key(file), str(onnxruntime.__version__)

    def _prompt_slots(self, n_cells: int) -> OnnxSlots:
        return self._batch_slots(1, n_cells)

    def _batch_slots(self, n_slots: int, n_cells: int) -> OnnxSlots:
        assert self._session is not None
        return OnnxSlots(self._session, n_cells, n_slots)

    def _make_sampler(self, sampling: Sampling) -> OnnxSampler:
        return OnnxSampler(sampling)

    def _free_model(self) -> None:
        self._session = None

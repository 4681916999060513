"""datatrove's side: the same steps with its own blocks. Arguments: settings, corpus, work, workers.

Nothing here imports groundup: datatrove lives in an environment of its own.
"""

import json
import re
import sys
import time
from pathlib import Path

import numpy as np
from datatrove.data import DocumentsPipeline
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.decont import NGramsDecontConfig, NGramsDecontFilter
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.filters import GopherRepetitionFilter, LambdaFilter
from datatrove.pipeline.formatters import FTFYFormatter, PIIFormatter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.hashing import HashConfig, create_hash_func
from datatrove.utils.logging import logger
from datatrove.utils.text import ngrams, simplify_text
from datatrove.utils.word_tokenizers import WordTokenizer

NUM_FILES = 2


class PatternTokenizer(WordTokenizer):
    """Words as ours has them: its tokenizer for English, spaCy's, takes far longer."""

    pattern = re.compile(r"\w+")

    def word_tokenize(self, text: str) -> list[str]:
        return self.pattern.findall(text)

    def sent_tokenize(self, text: str) -> list[str]:
        raise NotImplementedError("no step here needs sentences")

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        raise NotImplementedError("no step here needs spans")


class NameSplit(PipelineStep):
    name = "split by hash"

    def __init__(self, val: float, test: float) -> None:
        super().__init__()
        self.val, self.test = val, test
        self.hash = create_hash_func(HashConfig(precision=32))

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        for document in data:
            position = self.hash(document.id) / 2**32
            split = "val" if position < self.val else "test" if position < self.val + self.test else "train"
            document.metadata = {"split": split}
            yield document


class Index(PipelineStep):
    """The index that NGramsDecontFilter reads. datatrove's own indexer imports lighteval, whose tasks it is for."""

    name = "n-grams of test documents"

    def __init__(self, path: Path, config: NGramsDecontConfig, words: WordTokenizer) -> None:
        super().__init__()
        self.path, self.config, self.words = path, config, words
        self.hash = create_hash_func(config.hash_config)

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> None:
        hashes: set[int] = set()
        for document in data:
            found = self.words.word_tokenize(simplify_text(document.text, self.config.norm_config))
            hashes.update(self.hash(" ".join(ngram)) for ngram in ngrams(found, self.config.n_grams))
        self.path.parent.mkdir(parents=True)
        np.array(list(hashes), dtype=self.config.hash_config.np_descr).tofile(self.path)


def main() -> None:
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    corpus, work, workers = sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
    logger.remove()
    clean, dedup = settings["clean"], settings["dedup"]
    words = PatternTokenizer()
    config = MinhashConfig(
        n_grams=dedup["shingle_words"],
        num_buckets=settings["num_bands"],
        hashes_per_bucket=settings["band_rows"],
        hash_config=HashConfig(precision=32),
    )
    decontamination = NGramsDecontConfig(n_grams=settings["decontaminate_ngram"])

    def execute(name: str, pipeline: list[PipelineStep], tasks: int) -> None:
        # fork starts workers faster than its default
        LocalPipelineExecutor(
            pipeline,
            tasks=tasks,
            workers=min(workers, tasks),
            logging_dir=str(work / "logs" / name),
            start_method="fork",
        ).run()

    def folder(name: str) -> str:
        return str(work / name)

    def read(name: str, pattern: str | None = None) -> JsonlReader:
        return JsonlReader(folder(name), compression=None, glob_pattern=pattern, add_file_path=False)

    def write(name: str, pattern: str) -> JsonlWriter:
        return JsonlWriter(folder(name), output_filename=pattern, compression=None)

    start = time.perf_counter()
    repetition = GopherRepetitionFilter(
        dup_line_frac=clean["max_repeated_line_fraction"],
        dup_para_frac=None,
        dup_line_char_frac=None,
        dup_para_char_frac=None,
        top_n_grams=(),
        dup_n_grams=((clean["repeated_ngram_words"], clean["max_repeated_ngram_fraction"]),),
        language=words,
    )
    cleaning = [
        JsonlReader(corpus, compression=None, add_file_path=False),
        FTFYFormatter(normalization="NFC"),
        PIIFormatter(),
        LambdaFilter(lambda document: len(document.text) >= clean["min_characters"]),
        repetition,
        write("clean", "${rank}.jsonl"),
        MinhashDedupSignature(folder("signatures"), config, language=words),
    ]
    execute("clean", cleaning, NUM_FILES)
    buckets = MinhashDedupBuckets(folder("signatures"), folder("buckets"), config=config)
    execute("buckets", [buckets], config.num_buckets)
    execute("cluster", [MinhashDedupCluster(folder("buckets"), folder("removed"), config=config)], 1)
    split = NameSplit(settings["splits"]["val"], settings["splits"]["test"])
    unique = [read("clean"), MinhashDedupFilter(folder("removed")), split, write("unique", "${split}-${rank}.jsonl")]
    execute("unique", unique, NUM_FILES)
    execute("index", [read("unique", "test-*"), Index(work / "index/test.index.hashes", decontamination, words)], 1)
    against = NGramsDecontFilter(folder("index"), config=decontamination, language=words)
    execute("train", [read("unique", "train-*"), against, write("train", "${rank}.jsonl")], NUM_FILES)
    seconds = time.perf_counter() - start

    def count(name: str, pattern: str) -> int:
        return sum(1 for path in Path(folder(name)).glob(pattern) for _ in path.open("rb"))

    found = {split: count("unique", f"{split}-*") for split in ("train", "val", "test")}
    documents = {
        "train": count("train", "*.jsonl"),
        "held out": found["val"] + found["test"],
        "cleaned": count("clean", "*.jsonl"),
        "unique": sum(found.values()),
    }
    sys.stdout.write("\n" + json.dumps({"seconds": seconds, "documents": documents}) + "\n")


if __name__ == "__main__":
    main()

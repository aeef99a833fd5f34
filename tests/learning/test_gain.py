"""What draws for learning know of labels, and what they find on the corpus."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.conf import settings as real_settings
from sklearn.linear_model import LogisticRegression

from classifiers.disguise.deobfuscation import readable
from classifiers.encoder.bundle import build_encoder
from classifiers.encoder.embedding_cache import CorpusEncoder
from classifiers.encoder.encoder import Encoder
from classifiers.examples import load_corpus, split_of
from classifiers.finetuned import PharmacySafetyClassifier, last_embedding
from classifiers.policy import Policy as CascadePolicy
from classifiers.result import ClassifierResult, Layer
from guardreview.core.models import User
from guardreview.learning.gain import novelty_map_store
from guardreview.review.models import Embedding
from guardreview.review.similar import unit
from guardreview.verdicts import sampling
from guardreview.verdicts.learning_draw import ENOUGH, LearningDraw, RedisCounts
from guardreview.verdicts.models import Policy
from guardreview.verdicts.novelty import NoveltyMap
from tests import scenes
from tests.insight_scenes import answers, said


def test_the_map_is_made_of_settled_exchanges_alone(redis_server: Any, settings: Any, db: None) -> None:
    from django.utils import timezone

    people: dict[str, User] = scenes.people()
    counts, now = RedisCounts(settings.REDIS_URL), timezone.now()
    items = answers([{"at": now, "decision": "block", "kind": "blocked"} for _ in range(6)])
    numbers = np.random.default_rng(2)
    for at, item in enumerate(items):
        assert item is not None
        vector = numbers.standard_normal(384).astype(np.float32)
        Embedding.objects.create(exchange_id=item.exchange_id, encoder="e" * 64, vector=(vector / 20).astype("<f2").tobytes())
        if at < 4:
            said(item, people["ana"], "unsafe", now, label="single")
    assert novelty_map_store() == 0
    assert counts.novelty() is None  # nobody draws for learning
    Policy.objects.update(learning_share=0.01)
    assert novelty_map_store() == 4
    kept = counts.novelty()
    assert kept is not None
    assert NoveltyMap.from_bytes(kept).encoder == "e" * 64


def test_the_embedding_of_what_was_classified_last_is_the_one_that_is_kept_of_it(shipped_model: Any) -> None:
    classifier = PharmacySafetyClassifier(real_settings.MODELS_DIR / shipped_model.version)
    response, query = "We open at nine.", "When do you open?"
    classifier.classify(response, query)
    seen = last_embedding()
    assert seen is not None
    assert seen[1] == classifier.encoder.encoder_sha256
    kept = unit(classifier.encoder.embed([readable(response)], [readable(query)])[0].mean(axis=0))
    assert unit(seen[0]) @ kept == pytest.approx(1.0, abs=1e-4)


def test_on_the_corpus_draws_for_learning_find_more_misses_than_uniform_ones(
    corpus_embeddings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what a head trained on 500 examples allows. That the next head is better is not claimed: see docs/training.md."""
    monkeypatch.setattr(sampling, "_random", random.Random(5))
    corpus = load_corpus()
    rows = [e for e in corpus if split_of(e.group) in ("calibration", "pool", "validation")]
    embedder = CorpusEncoder(Encoder(build_encoder(real_settings.MODELS_DIR)), corpus, corpus_embeddings.parent)
    found = embedder.embed([readable(e.response) for e in rows], [readable(e.query) for e in rows])
    vectors = np.array([unit(windows.mean(axis=0)) for windows in found])
    unsafe = np.array([e.unsafe for e in rows])
    order = np.random.default_rng(1).permutation(len(rows))
    seed, rest = order[:500], order[500:]
    head = LogisticRegression(C=1.0, max_iter=500).fit(vectors[seed] * 5, unsafe[seed])
    scores = head.predict_proba(vectors[rest] * 5)[:, 1]
    bound = float(np.quantile(scores[unsafe[rest]], 0.3))
    policy = CascadePolicy.from_json({"thresholds": {"default": {"block_at": 1.0, "allow_below": bound}}})
    known = NoveltyMap.of("e", iter(vectors[seed]))
    assert known is not None
    draw = LearningDraw(_Alone())
    drawn, hits = 0, 0
    allowed = [(row, score) for row, score in zip(rest.tolist(), scores.tolist(), strict=True) if score < bound]
    for row, score in allowed:
        result = ClassifierResult(True, "safe", "r", 0.9, layer=Layer.FINETUNED, scores={"unsafe": score})
        wanted = draw.wanted(sampling.gain(policy, [result], known.novelty(vectors[row])), 0.001, 0.1)
        if wanted > 0.001 and sampling.drawn(sampling.raised(0.001, wanted)):
            drawn += 1
            hits += bool(unsafe[row])
    uniform = np.mean([unsafe[row] for row, _ in allowed])
    assert drawn > ENOUGH
    assert hits / drawn > 1.5 * uniform


class _Alone:
    """The counts of a single worker."""

    def __init__(self) -> None:
        self.kept: dict[str, float] = {}

    def tell(self, changes: Any) -> dict[str, float]:
        for name, value in changes.items():
            self.kept[name] = self.kept.get(name, 0.0) + value
        return dict(self.kept)

    def novelty(self) -> bytes | None:
        return None

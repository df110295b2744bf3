"""Twenty questions over one text, in one sample or each in its own; runs of a method on them."""

from harness.contracts.task import Question, Sample

from .running import Toy, settings, with_toy

TEXT = " ".join(f"The sky is {n} and the grass is {7 * n % 11}." for n in range(16))
ASKED = tuple(f"\nQuestion {n}: what is {'the sky ' * (n % 4)}?\nAnswer:" for n in range(20))


class Several(Toy):
    """Twenty questions over one text in one sample, or each in a sample of its own."""

    together, turns, most, n = True, "apart", None, 20

    def samples(self, env):
        text = TEXT[: self.most]
        questions = [
            Question(a, (str(k),), 4, answer=f" {k}", joint="\n", metadata={"k": k})
            for k, a in enumerate(ASKED[: self.n])
        ]
        if self.together:
            yield Sample.several("s", "Read.\n", text, questions, turns=self.turns, chat=False)
            return
        for k, question in enumerate(questions):
            yield Sample.several(f"s{k}", "Read.\n", text, [question], chat=False)


def questions_for(monkeypatch, model_folder, tmp_path):
    """What makes the settings of a run on `Several`, for the length of a test."""
    with_toy(monkeypatch)
    monkeypatch.setattr("tests.helpers.running.Toy", Several)

    def wanted(folder="runs", together=True, turns="apart", most=None, n=20, **changes):
        for name, value in {"together": together, "turns": turns, "most": most, "n": n}.items():
            monkeypatch.setattr(Several, name, value)
        return settings(model_folder, tmp_path / folder, tasks=("toy",), **changes)

    return wanted

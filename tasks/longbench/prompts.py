"""The official protocol of each LongBench data set: template, answer length, chat exceptions, category.

The templates are LongBench's own words (``config/dataset2prompt.json``, ``dataset2maxlen.json`` and
``pred.py`` of THUDM/LongBench), misspelling included: published numbers were made with them, so a corrected
prompt would be another protocol and need another preset name.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.contracts import Prompt

PRESET = "longbench-official@1"
"""Recorded with each run; the number changes whenever a template, limit or chat exception does."""


@dataclass(frozen=True)
class Protocol:
    """How one data set is asked.

    Attributes
    ----------
    template
        The raw prompt with the places ``{context}`` (exactly once) and ``{input}`` (at most once, and
        after the context).
    new_tokens
        Most tokens of the answer.
    chat
        False where `pred.py` never applies a chat template: the few-shot and the code sets.
    stop
        Strings whose last token ends the answer.
    min_new_tokens
        Fewest tokens of the answer, so that a stop string at its very start does not empty it.
    """

    template: str
    new_tokens: int
    chat: bool = True
    stop: tuple[str, ...] = ()
    min_new_tokens: int = 0

    def render(self, context: str, question: str) -> Prompt:
        """Fill the template; the parts joined are what ``str.format`` would give.

        Plain substitution, into the template only: rows are full of braces (code, LaTeX) and may even hold
        the text ``{input}``. Whatever follows the context belongs to the suffix, the question included.
        """
        prefix, _, rest = self.template.partition("{context}")
        return Prompt(prefix, context, rest.replace("{input}", question), question)


_MULTI_DOCUMENT = (
    "Answer the question based on the given passages. Only give me the answer and do not output any other "
    "words.\n\nThe following are given passages.\n{context}\n\nAnswer the question based on the given "
    "passages. Only give me the answer and do not output any other words.\n\nQuestion: {input}\nAnswer:"
)

PROTOCOLS: dict[str, Protocol] = {
    "narrativeqa": Protocol(
        "You are given a story, which can be either a novel or a movie script, and a question. Answer the "
        "question asconcisely as you can, using a single phrase if possible. Do not provide any explanation."
        "\n\nStory: {context}\n\nNow, answer the question based on the story asconcisely as you can, using a "
        "single phrase if possible. Do not provide any explanation.\n\nQuestion: {input}\n\nAnswer:",
        128,
    ),
    "qasper": Protocol(
        "You are given a scientific article and a question. Answer the question as concisely as you can, "
        "using a single phrase or sentence if possible. If the question cannot be answered based on the "
        'information in the article, write "unanswerable". If the question is a yes/no question, answer '
        '"yes", "no", or "unanswerable". Do not provide any explanation.\n\nArticle: {context}\n\n Answer '
        "the question based on the above article as concisely as you can, using a single phrase or sentence "
        "if possible. If the question cannot be answered based on the information in the article, write "
        '"unanswerable". If the question is a yes/no question, answer "yes", "no", or "unanswerable". Do not '
        "provide any explanation.\n\nQuestion: {input}\n\nAnswer:",
        128,
    ),
    "multifieldqa_en": Protocol(
        "Read the following text and answer briefly.\n\n{context}\n\nNow, answer the following question "
        "based on the above text, only give me the answer and do not output any other words.\n\n"
        "Question: {input}\nAnswer:",
        64,
    ),
    "multifieldqa_zh": Protocol(
        "阅读以下文字并用中文简短回答：\n\n{context}\n\n现在请基于上面的文章回答下面的问题，只告诉我答案，"
        "不要输出任何其他字词。\n\n问题：{input}\n回答：",
        64,
    ),
    "hotpotqa": Protocol(_MULTI_DOCUMENT, 32),
    "2wikimqa": Protocol(_MULTI_DOCUMENT, 32),
    "musique": Protocol(_MULTI_DOCUMENT, 32),
    "dureader": Protocol(
        "请基于给定的文章回答下述问题。\n\n文章：{context}\n\n请基于上述文章回答下面的问题。\n\n"
        "问题：{input}\n回答：",
        128,
    ),
    "gov_report": Protocol(
        "You are given a report by a government agency. Write a one-page summary of the report.\n\n"
        "Report:\n{context}\n\nNow, write a one-page summary of the report.\n\nSummary:",
        512,
    ),
    "qmsum": Protocol(
        "You are given a meeting transcript and a query containing a question or instruction. Answer the "
        "query in one or more sentences.\n\nTranscript:\n{context}\n\nNow, answer the query based on the "
        "above meeting transcript in one or more sentences.\n\nQuery: {input}\nAnswer:",
        512,
    ),
    "multi_news": Protocol(
        "You are given several news passages. Write a one-page summary of all news. \n\nNews:\n{context}\n\n"
        "Now, write a one-page summary of all the news.\n\nSummary:",
        512,
    ),
    "vcsum": Protocol(
        "下面有一段会议记录，请你阅读后，写一段总结，总结会议的内容。\n会议记录：\n{context}\n\n会议总结：",
        512,
    ),
    "trec": Protocol(
        "Please determine the type of the question below. Here are some examples of questions.\n\n"
        "{context}\n{input}",
        64,
        chat=False,
    ),
    "triviaqa": Protocol(
        "Answer the question based on the given passage. Only give me the answer and do not output any other "
        "words. The following are some examples.\n\n{context}\n\n{input}",
        32,
        chat=False,
    ),
    "samsum": Protocol(
        "Summarize the dialogue into a few short sentences. The following are some examples.\n\n"
        "{context}\n\n{input}",
        128,
        chat=False,
        stop=("\n",),
        min_new_tokens=1,
    ),
    "lsht": Protocol("请判断给定新闻的类别，下面是一些例子。\n\n{context}\n{input}", 64, chat=False),
    "passage_count": Protocol(
        "There are some paragraphs below sourced from Wikipedia. Some of them may be duplicates. Please "
        "carefully read these paragraphs and determine how many unique paragraphs there are after removing "
        "duplicates. In other words, how many non-repeating paragraphs are there in total?\n\n{context}\n\n"
        "Please enter the final count of unique paragraphs after removing duplicates. The output format "
        "should only contain the number, such as 1, 2, 3, and so on.\n\nThe final answer is: ",
        32,
    ),
    "passage_retrieval_en": Protocol(
        "Here are 30 paragraphs from Wikipedia, along with an abstract. Please determine which paragraph the "
        "abstract is from.\n\n{context}\n\nThe following is an abstract.\n\n{input}\n\nPlease enter the "
        "number of the paragraph that the abstract is from. The answer format must be like "
        '"Paragraph 1", "Paragraph 2", etc.\n\nThe answer is: ',
        32,
    ),
    "passage_retrieval_zh": Protocol(
        "以下是若干段落文字，以及其中一个段落的摘要。请确定给定的摘要出自哪一段。\n\n{context}\n\n"
        "下面是一个摘要\n\n{input}\n\n请输入摘要所属段落的编号。"
        '答案格式必须是"段落1"，"段落2"等格式\n\n答案是：',
        32,
    ),
    "lcc": Protocol(
        "Please complete the code given below. \n{context}Next line of code:\n",
        64,
        chat=False,
    ),
    "repobench-p": Protocol(
        "Please complete the code given below. \n{context}{input}Next line of code:\n",
        64,
        chat=False,
    ),
}

CATEGORIES: dict[str, tuple[str, ...]] = {
    "SingleDoc": ("narrativeqa", "qasper", "multifieldqa_en"),
    "MultiDoc": ("hotpotqa", "2wikimqa", "musique"),
    "Summary": ("gov_report", "qmsum", "multi_news"),
    "FewShot": ("trec", "triviaqa", "samsum"),
    "Code": ("lcc", "repobench-p"),
}
"""The five categories of the papers, and the fourteen data sets in them, in the papers' order."""

PAPER_SETS: tuple[str, ...] = tuple(name for names in CATEGORIES.values() for name in names)

LONGBENCH_E: tuple[str, ...] = (
    "qasper_e",
    "multifieldqa_en_e",
    "hotpotqa_e",
    "2wikimqa_e",
    "gov_report_e",
    "multi_news_e",
    "trec_e",
    "triviaqa_e",
    "samsum_e",
    "passage_count_e",
    "passage_retrieval_en_e",
    "lcc_e",
    "repobench-p_e",
)
"""LongBench-E: thirteen sets resampled to even lengths, asked and scored like the set they are named for."""

OTHER_SETS: tuple[str, ...] = tuple(name for name in PROTOCOLS if name not in PAPER_SETS)


def base(dataset: str) -> str:
    """The data set whose prompt and metric `dataset` uses: itself, or for ``trec_e`` the set ``trec``."""
    return dataset.removesuffix("_e") if dataset in LONGBENCH_E else dataset

"""`cellcount survey`: what people say of the regions that prototypes point at."""

import argparse
from pathlib import Path

from cellcount_jax.cli.common import SOME_FAILED, AddCommand, add_parser, help_epilog
from cellcount_jax.runtime.setup import configure_process

OUT_HELP = "folder, default: survey; files of an earlier call are kept"
NUMBER_HELP = "regions of prototypes, half of cells and half of background; default: 24"
RANDOM_HELP = "regions at random places, as controls; default: 0"
REGIONS_HELP = (
    "a prototype's strongest region in an image, or any of its regions; default: strongest"
)


def add(command: AddCommand) -> None:
    """Adds the command of this file."""
    example = "cellcount survey make my_images --model runs/countxplain_vgg -o survey"
    text = "Ask people what the regions show that prototypes point at."
    end = help_epilog(
        example,
        ("OUT/survey.html, OUT/key.json", "of make: a page of questions, and what they are about"),
        ("OUT/scores.json, OUT/scores.csv", "of score: what the raters answered"),
    )
    sub = command("survey", _survey, text, end)
    actions = sub.add_subparsers(required=True, dest="action", metavar="make|score")
    end = help_epilog(
        example,
        ("OUT/survey.html", "the page for the raters: works offline, saves answers as a file"),
        ("OUT/key.json", "what each question is about: keep it from the raters"),
    )
    make = add_parser(actions, "make", "write a page of questions for raters", end)
    make.add_argument("paths", nargs="+", type=Path, help="image files or folders")
    make.add_argument("--model", type=Path, required=True, help="run of a method with prototypes")
    make.add_argument("-o", "--out", type=Path, default=Path("survey"), help=OUT_HELP)
    make.add_argument("-n", "--number", type=int, default=24, help=NUMBER_HELP)
    make.add_argument("--random", type=int, default=0, metavar="N", help=RANDOM_HELP)
    regions = ("strongest", "any")
    make.add_argument("--regions", choices=regions, default="strongest", help=REGIONS_HELP)
    make.add_argument("--seed", type=int, default=0, help="of choice and order; default: 0")

    end = help_epilog(
        "cellcount survey score answers_*.json --key survey/key.json -o survey",
        ("OUT/scores.json", "agreement, consensus and ease: of groups, raters and questions"),
        ("OUT/scores.csv", "the votes on each question"),
    )
    score = add_parser(actions, "score", "compare the answers of all raters", end)
    score.add_argument("answers", nargs="+", type=Path, help="files that the page saved")
    score.add_argument("--key", type=Path, required=True, help="key.json of the survey")
    score.add_argument("-o", "--out", type=Path, default=Path("survey"), help=OUT_HELP)


def _survey(options: argparse.Namespace) -> int:
    return _make(options) if options.action == "make" else _score(options)


def _make(options: argparse.Namespace) -> int:
    from cellcount_jax.inference.counter import Counter
    from cellcount_jax.io.images.find import list_images
    from cellcount_jax.reporting import explanation_report, survey

    configure_process(verbose=options.verbose)
    counter = Counter.load(options.model)
    subjects = explanation_report.subjects_of_files(list_images(options.paths))
    failed = survey.write_survey(
        counter,
        subjects,
        options.out,
        number=options.number,
        n_random=options.random,
        strongest=options.regions == "strongest",
        seed=options.seed,
    )
    print(f"{options.number + options.random} questions: {options.out / survey.PAGE}")
    print(f"send the page alone; {options.out / survey.KEY} tells what the questions are about")
    return SOME_FAILED if failed else 0


def _score(options: argparse.Namespace) -> int:
    from cellcount_jax.evaluation import survey, survey_files
    from cellcount_jax.reporting import survey_scores

    identity, questions = survey_files.read_key(options.key)
    raters = survey_files.read_raters(options.answers, identity, questions, options.key)
    found = survey.scores(questions, raters)
    survey_scores.write_scores(found, identity, options.out)
    print(f"{len(raters)} raters, {len(questions)} questions")
    print("\n".join(survey_scores.in_lines(found)))
    print(f"each question: {options.out / 'scores.csv'}; all: {options.out / 'scores.json'}")
    return 0

"""Write the report of a finished run: measure the stored images, then report/index.html."""

from hyperface.config import Config
from jobs.start import start


def main(config: Config) -> None:
    from hyperface.models.loading import load_judge, load_recognizer
    from hyperface.report import write_report
    from hyperface.run import open_run

    write_report(open_run(config), load_recognizer(config.recognizer), load_judge(config))


if __name__ == "__main__":
    start(main, "jobs.report")

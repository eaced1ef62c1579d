"""A model with the mean weights of two runs, where the second began as the first: a model soup (Wortsman et al. 2022).

    python tools/average_weights.py fer2013.csv.gz ferplus_votes.csv runs/faceres-2 runs/faceres-3 runs/faceres-mean

The mean of a run and of what it became keeps most of what both are good at, at the cost of one network. Both heads are written,
with a temperature and a sensitivity of their own, as `ferkit train` does; the card says of which runs it is the mean.
"""

import argparse
from pathlib import Path
from typing import Any

from ferkit.data import load_dataset
from ferkit.evaluation import prior_of
from ferkit.models import model_folder
from ferkit.models.exporting import open_network
from ferkit.training.finish import write_model

HEADS = ("", "votes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("votes")
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="of the second run's weights; default: %(default)s")
    options = parser.parse_args()
    dataset = load_dataset(options.data, votes=options.votes)
    val = {"": dataset.val, "votes": dataset.val.by_votes()[0]}
    for head in HEADS:
        card = model_folder.read_card(options.second / head)
        network = averaged(options.first / head, options.second / head, options.share)
        about = card["training"] | {
            "averaged": {str(options.first): 1 - options.share, str(options.second): options.share}
        }
        trouble = write_model(
            options.out / head,
            network,
            val[head],
            about,
            architecture=card["architecture"],
            prior=prior_of(dataset.train) if head else None,
        )
        print(
            trouble or f"{options.out / head}: {model_folder.read_card(options.out / head)['metrics']['accuracy']:.4f}"
        )


def averaged(first: Path, second: Path, share: float) -> Any:
    """The second network with the mean of both weights, `share` of them its own; statistics of normalisation included."""
    network, other = open_network(second), open_network(first)
    pairs = zip(other.get_weights(), network.get_weights(), strict=True)
    network.set_weights([(1 - share) * theirs + share * own for theirs, own in pairs])
    return network


if __name__ == "__main__":
    main()

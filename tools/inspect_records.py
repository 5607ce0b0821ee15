"""What a TFRecord or MindRecord file holds: the same as `port data inspect`.

python tools/inspect_records.py records/train.tfrecord
"""

from porting.cli_data import run

if __name__ == "__main__":
    run("inspect")

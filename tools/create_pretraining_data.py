"""Text to masked-LM TFRecords: the same as `port data pretraining`.

python tools/create_pretraining_data.py corpus.txt -o pretraining.tfrecord --vocab vocab.txt
"""

from porting.cli_data import run

if __name__ == "__main__":
    run("pretraining")

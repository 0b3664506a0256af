#!/usr/bin/env bash
# Unpacks ImageNet's two tar files into the folders that training reads: OUT/train/CLASS/*.JPEG, OUT/val/CLASS/*.JPEG.
#
#   scripts/prepare_imagenet.sh TARS OUT          # about 150 GB
#   scripts/prepare_imagenet.sh --tfds TARS OUT   # TFRecords instead, for tfds:imagenet2012 with --data-dir OUT
#
# TARS holds ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar, as image-net.org gives them to those who registered.
# It can be run again after an interruption: a class that is complete is not unpacked twice. At the end there must be
# 1,281,167 training and 50,000 validation images, in 1,000 classes each, or the exit code is 1.
#
# Which class a validation image is of, the tar files do not tell. TensorFlow Datasets, which keras_t2t installs, has a
# list, one WordNet id a line in the order of the images; --labels FILE names another.
#
#   --train-images N --val-images N --classes N   the counts of a part of ImageNet
#   PYTHON=/path/to/python                        the Python that has TensorFlow Datasets (default: the repository's
#                                                 .venv where there is one, else python3)
set -euo pipefail

fail() {
  echo "prepare_imagenet.sh: error: $*" >&2
  exit 2
}

python=$(dirname "${BASH_SOURCE[0]}")/../.venv/bin/python
[[ -x $python ]] || python=python3
python=${PYTHON:-$python}
train_images=1281167 val_images=50000 classes=1000 labels="" tfds=false
paths=()
while [[ $# -gt 0 ]]; do
  case $1 in
    --tfds) tfds=true && shift ;;
    --labels | --train-images | --val-images | --classes)
      [[ $# -gt 1 ]] || fail "$1: expected a value"
      name=${1#--}
      printf -v "${name//-/_}" %s "$2"
      shift 2
      ;;
    -h | --help) sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "$0" && exit ;;
    -*) fail "$1: no such option" ;;
    *) paths+=("$1") && shift ;;
  esac
done
[[ ${#paths[@]} -eq 2 ]] || fail "expected two folders, TARS and OUT, got ${#paths[@]}"
tars=${paths[0]} out=${paths[1]}
train_tar=$tars/ILSVRC2012_img_train.tar val_tar=$tars/ILSVRC2012_img_val.tar
for file in "$train_tar" "$val_tar"; do
  [[ -f $file ]] || fail "$file: no such file"
done
mkdir -p "$out"

if $tfds; then
  exec "$python" -P - "$tars" "$out" "$train_images" "$val_images" <<'END'
import sys

import tensorflow_datasets as tfds

tars, out, *counts = sys.argv[1:]
builder = tfds.builder("imagenet2012", data_dir=out)
builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=tars))
status = 0
for name, expected in zip(("train", "validation"), map(int, counts)):
    images = builder.info.splits[name].num_examples
    print(f"{name}: {images} images")
    if images != expected:
        print(f"prepare_imagenet.sh: error: {name}: expected {expected} images", file=sys.stderr)
        status = 1
sys.exit(status)
END
fi

if [[ -z $labels ]]; then
  # Found without importing it, which would take seconds and load TensorFlow.
  package=$("$python" -P -c 'import importlib.util as u; s = u.find_spec("tensorflow_datasets"); print(s.origin if s else "")')
  labels=$(dirname "$package")/datasets/imagenet2012/validation_labels.txt
fi
[[ -f $labels ]] || fail "--labels: $labels: no such file; install tensorflow-datasets or name a list"

# Beside what it becomes, so that a rename makes a folder appear complete or not at all.
part=$out/.part
rm -rf "$part"

# The tar file of training images holds a tar file for each class.
mkdir -p "$out/train"
tar --list --file "$train_tar" | while read -r member; do
  class=$(basename "$member" .tar)
  [[ -d $out/train/$class ]] && continue
  mkdir -p "$part/$class"
  tar --extract --to-stdout --seek --occurrence=1 --file "$train_tar" "$member" |
    tar --extract --no-same-owner --directory "$part/$class"
  mv "$part/$class" "$out/train/$class"
  echo "train/$class"
done

if [[ ! -d $out/val ]]; then
  mkdir -p "$part/all" "$part/val"
  tar --extract --no-same-owner --file "$val_tar" --directory "$part/all"
  sort -u "$labels" | while read -r class; do
    mkdir "$part/val/$class"
  done
  # The images' names end in their numbers, and so sort as the list does.
  mapfile -t images < <(cd "$part/all" && find . -name 'ILSVRC2012_val_*.JPEG' | sort)
  mapfile -t list <"$labels"
  [[ ${#images[@]} -eq ${#list[@]} ]] ||
    fail "$val_tar: expected an image for each of the ${#list[@]} lines of $labels, got ${#images[@]}"
  for i in "${!images[@]}"; do
    mv "$part/all/${images[i]}" "$part/val/${list[i]}/"
  done
  mv "$part/val" "$out/val"
fi
rm -rf "$part"

# check SPLIT IMAGES: complains unless there are so many, in as many classes as there should be.
status=0
check() {
  local images folders
  images=$(find "$out/$1" -name '*.JPEG' -size +0 | wc -l)
  folders=$(find "$out/$1" -mindepth 1 -maxdepth 1 -type d | wc -l)
  echo "$out/$1: $images images, $folders classes"
  if [[ $images -ne $2 || $folders -ne $classes ]]; then
    echo "prepare_imagenet.sh: error: $out/$1: expected $2 images, $classes classes" >&2
    status=1
  fi
}
check train "$train_images"
check val "$val_images"
exit $status

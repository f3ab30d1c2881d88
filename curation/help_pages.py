"""The longer texts of the help of `python -m curation`."""

DESCRIPTION = """\
From downloaded images to a data set: seven stages, and queries about it.

examples:
  python -m curation measure --side 64                 one stage, one parameter changed
  python -m curation split --help                      the parameters of a stage
  python -m curation measure --engine ray              the same bytes, by a cluster
  python -m curation query "SELECT * FROM funnel"      where the posts went, and why
  python -m curation query "SELECT step, outcome, detail FROM journey WHERE post_id = 1234"
  python -m curation query "SELECT * FROM label_counts" --csv > labels.csv
  python -m curation query "FROM dataset" --parquet dataset.parquet
  python -m curation select "SELECT post_id FROM dataset WHERE NOT white_background" -o scenes.parquet
  python -m curation get 1234 -o image.png             one image out of its shard
  python -m curation verify                            every hash, every offset, no leak
  python -m curation browse                            posts, images, predictions in a browser
  python -m curation remove post 1234 --why "request"  leave a post out, now and later
  python -m curation keep                              every post stays in its split, from now on
  python -m curation diff old data                     the samples of two builds
  python -m curation export parquet my-data            for load_dataset("my-data")
  python -m curation push s3://bucket/folder           the build, for others, who `pull` it
"""
EPILOG = """\
The stages run in the order above; `dvc repro` runs those whose inputs changed.
docs/queries.sql holds ten queries to start from.
The engine `ray` (measure, duplicates, shards, export) works on the Ray cluster at $RAY_ADDRESS, or on
one that it starts on this machine: the same bytes, see docs/howto/cluster.md.

"""
QUERY = """\
tables  posts tags post_tags implications aliases kept personae decisions stages images measures
        groups links labels splits samples shards builds tombstones funnel duplicate_groups
        label_counts look_alikes leaks
views   journey rejections white_background unusual_ground dataset
also    predictions (run, seed, post_id, split, label, predicted, …) where models were evaluated
        seen (run, seed, post_id, split) and runs (run, seed, root_sha256, is_known) of trained models

The catalog is opened for reading only, and SQL cannot open any other file.
"""
EXPORT = """\
parquet   images and columns in Parquet files, with Croissant metadata:
            datasets.load_dataset("DIR")
folder    SPLIT/LABEL/POST.png with tables of labels (index.csv, metadata.csv, coco.json):
            torchvision.datasets.ImageFolder("DIR/train"), timm, FiftyOne;
            python -m scraper --folder DIR reads it again
A plain table without images: python -m curation query "FROM dataset" --csv
"""
STORAGE = """\
Credentials come from the environment alone: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. AWS_ENDPOINT_URL
names the server if it is not Amazon's. Nothing that is there already is copied again, and a stopped copy
goes on: run the same command again.
"""
BROWSE = """\
The address holds every filter, so that a view can be kept or linked to. The images of one cell of a
confusion matrix:
  http://127.0.0.1:8423/?run=flat&split=test&true=LABEL&predicted=LABEL
Keys: / filters, arrows or h j k l choose an image, Enter opens it, Esc closes it, n p turn pages.
"""

"""The three data sets of the MMBT paper, in the original's layout."""

from .image_text import ImageText


class MMIMDB(ImageText):
    """Film posters and plots with one or several of 23 genres (Arevalo et al. 2017, arXiv:1702.01992).

    Rows: as published, not counted here, 15,552 train, 2,608 dev, 7,799 test; `test_hard` where the MMBT authors made
    one.
    Columns: `image` (null where the poster is missing), `text` (plot), `labels` (List of ClassLabel), `id`.
    Classes: 23 genres, from 13,967 records (Drama) down to 338 (Film-Noir) over all splits.
    Layout: `<data_root>/mmimdb/{train,dev,test,test_hard_gt,test_hard}.jsonl`, each line
    `{"text", "img" or "image": relative path or null, "label": [str, ...]}`, as the original's
    `scripts/mmimdb.py` writes it (with the key `image`, where its reader wants `img`: both are read here).
    Class numbers follow the first occurrence in train, as in the original.
    Licence: the pictures and plots belong to their owners; the data set is for research.
    Source: https://github.com/johnarevalo/gmu-mmimdb
    """

    FOLDER = "mmimdb"
    DEFAULTS = {"label_order": "first", "multi_label": True}


class Food101(ImageText):
    """Pictures of dishes with the text of the page that showed them (Wang et al. 2015, UPMC Food-101).

    Rows: as published, not counted here, 60,085 train, 5,000 dev, 21,683 test in the MMBT paper's split;
    `test_hard` where its authors made one.
    Columns: `image`, `text` (words of the web page), `label` (ClassLabel), `id` where given.
    Classes: 101 dishes, nearly balanced.
    Layout: `<data_root>/food101/{train,dev,test,test_hard_gt,test_hard}.jsonl`, each line
    `{"text", "img" or "image": relative path or null, "label": str}`.
    Class numbers follow the first occurrence in train, as in the original.
    Licence: pictures and texts were collected from the web and belong to their owners; for research.
    Source: http://visiir.lip6.fr/
    """

    FOLDER = "food101"
    DEFAULTS = {"label_order": "first", "multi_label": False}


class VSNLI(ImageText):
    """Pairs of sentences with the picture that the first one describes (Vu et al. 2018, arXiv:1806.05645).

    Rows: as published, not counted here, 545,620 train, 9,842 dev, 9,824 test; `test_hard` holds what a
    model that reads only the second sentence gets wrong.
    Columns: `image` (Flickr30k), `sentence1` (premise, a caption), `sentence2` (hypothesis), `label`.
    Classes: entailment, neutral, contradiction, nearly balanced.
    Layout: `<data_root>/vsnli/{train,dev,test,test_hard}.jsonl`, each line
    `{"sentence1", "sentence2", "img" or "image": relative path or null, "label": str}`.
    Class numbers follow the first occurrence in train, as in the original.
    Licence: SNLI is CC BY-SA 4.0; Flickr30k pictures are for non-commercial research.
    Source: https://github.com/claudiogreco/coling18-gte
    """

    FOLDER = "vsnli"
    DEFAULTS = {"label_order": "first", "multi_label": False}

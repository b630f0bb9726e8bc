"""SparseCtrl: control pictures on a few frames of an AnimateDiff clip."""

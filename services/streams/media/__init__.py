"""Users' media: which file a `video_source` means, and what is in it.

`library` resolves the text to one regular file inside its owner's folder, `probe`
gives a verdict on that very file, with `worker` doing the parsing in a process
that can do nothing else. `facts` is what the two say to each other.
"""

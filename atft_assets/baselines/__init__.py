"""What a network must beat, with the care that the network gets: ridge, LightGBM, rules, and a blend with the network.

Here belongs how scores are made without a network: on the same panel, fold, rows and target, every choice made within
the train block. Not here: the assets and what they store (`training.baselines`), how scores are judged (`scoring`), and
anything that needs torch, such as a perceptron of the newest row, which is the trunk of the network's own first phase.
"""

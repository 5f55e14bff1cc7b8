"""python -m lnt.noise: the command is at home in lnt/labels_command.py, where settings may be composed."""

from lnt.labels_command import main

main()

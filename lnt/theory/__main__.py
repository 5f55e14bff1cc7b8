"""python -m lnt.theory: the command is at home in lnt/prediction.py, where settings may be composed."""

from lnt.prediction import main

main()

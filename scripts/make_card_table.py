"""Write a simulated card table in IBM's schema, to try the tabular half on.

python scripts/make_card_table.py --users 100 --rows 100000 --fraud-rate 0.001 --out card.csv
"""

from hf_mmtab.data.simulated_cards import main

if __name__ == "__main__":
    main()

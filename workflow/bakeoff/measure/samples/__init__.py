"""What measuring leaves: the closed lists of outcomes and protocols, records and their journal, and what is assembled
from them."""

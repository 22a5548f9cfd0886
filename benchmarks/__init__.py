"""What `make bench` and `make results` run. No part of the product: nothing in it is installed."""

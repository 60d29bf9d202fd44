"""The trio shell of consensus: feeds the pure core and carries out its effects."""

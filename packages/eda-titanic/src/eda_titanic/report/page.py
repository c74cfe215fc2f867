def report(table, title, facts):
    return "<html></html>" * 10000

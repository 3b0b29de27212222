# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
import pytest
import transaction
import ZODB
from persistent.mapping import PersistentMapping
from transaction.interfaces import ITransactionManager
from ZODB.interfaces import IConnection
from zope.component import provideAdapter

from zc.async_ import adapters


class Node(PersistentMapping):
    def __init__(self, **attributes):
        super().__init__()
        vars(self).update(attributes)


@pytest.fixture
def registered():
    provideAdapter(adapters.connection)
    provideAdapter(adapters.transactionManager)
    provideAdapter(adapters.transactionManager, adapts=(IConnection,))


@pytest.fixture
def connection():
    db = ZODB.DB(None)
    connection = db.open(transaction.TransactionManager())
    yield connection
    connection.close()
    db.close()


def test_a_stored_object_has_its_connection(registered, connection):
    assert IConnection(connection.root()) is connection


@pytest.mark.parametrize("attribute", ["__parent__", "parent"])
def test_a_new_object_has_the_connection_of_its_parents(
    registered, connection, attribute
):
    parent = Node(**{attribute: connection.root()})
    child = Node(**{attribute: parent})
    assert IConnection(child) is connection
    assert ITransactionManager(child) is connection.transaction_manager


def test_an_object_without_connection_cannot_be_adapted(registered):
    for interface in IConnection, ITransactionManager:
        assert interface(Node(), None) is None
        with pytest.raises(TypeError, match="Could not adapt"):
            interface(Node())


def test_parents_in_a_circle_are_no_trap(registered):
    node = Node()
    node.parent = Node(parent=node)
    assert IConnection(node, None) is None


def test_object_and_connection_have_the_same_transaction_manager(
    registered, connection
):
    manager = connection.transaction_manager
    assert ITransactionManager(connection.root()) is manager
    assert ITransactionManager(connection) is manager


def test_the_transaction_manager_is_found_without_registrations(connection):
    manager = connection.transaction_manager
    assert adapters.transactionManager(connection.root()) is manager
    assert adapters.transactionManager(Node()) is None


def test_methods_of_builtin_objects_have_the_wrapper_type():
    assert isinstance({}.__len__, adapters.METHOD_WRAPPER_TYPE)
    assert not isinstance([].append, adapters.METHOD_WRAPPER_TYPE)
